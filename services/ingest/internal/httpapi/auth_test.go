package httpapi

import (
	"net/http"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// Only a proxy that is trusted may say whose address it forwards.
func TestClientIP(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	cases := map[string]struct {
		peer, forwarded string
		trusted         []netip.Prefix
		want            string
	}{
		"direct":                     {"192.0.2.1:1000", "", trusted, "192.0.2.1"},
		"forged":                     {"192.0.2.1:1000", "198.51.100.9", trusted, "192.0.2.1"},
		"nobody is trusted":          {"10.0.0.1:1000", "198.51.100.9", nil, "10.0.0.1"},
		"through a proxy":            {"10.0.0.1:1000", "198.51.100.9", trusted, "198.51.100.9"},
		"through two, forged before": {"10.0.0.1:1000", "203.0.113.1, 198.51.100.9, 10.0.0.2", trusted, "198.51.100.9"},
		"proxy that says nonsense":   {"10.0.0.1:1000", "unknown", trusted, "10.0.0.1"},
		"IPv4 within IPv6":           {"[::ffff:192.0.2.1]:1000", "", trusted, "192.0.2.1"},
		"IPv6 with a zone":           {"[fe80::1%eth0]:1000", "", trusted, "fe80::1"},
		"not an address":             {"pipe", "", trusted, ""},
	}
	for name, c := range cases {
		r := &http.Request{RemoteAddr: c.peer, Header: http.Header{}}
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		require.Equal(t, c.want, clientIP(r, c.trusted), name)
	}
}
