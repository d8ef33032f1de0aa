package httpapi

import (
	"encoding/base64"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// basicKey is the write key in an Authorization header: the user name of Basic, with or without the colon
// after it, padded or not. Blank if there is none.
func basicKey(r *http.Request) string {
	scheme, value, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Basic") {
		return ""
	}
	decoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(value), "="))
	if err != nil {
		return ""
	}
	key, _, _ := strings.Cut(string(decoded), ":")
	return strings.TrimSpace(key)
}

// jitsuKey is the write key in X-Write-Key, `id:secret`: the whole of it if a source has that key, else
// the part before the colon, as with Basic. Blank if there is none.
func (q *request) jitsuKey() string {
	whole := strings.TrimSpace(q.http.Header.Get("X-Write-Key"))
	id, _, two := strings.Cut(whole, ":")
	if !two || q.intake.SourceOf(whole) != nil {
		return whole
	}
	return id
}

// keyAhead is the write key that can be known before the body is read. Nothing but the body's own is left
// to compare it with: false for two that differ.
func (q *request) keyAhead() (string, bool) {
	key := ""
	for _, other := range [...]string{basicKey(q.http), q.jitsuKey(), q.queryKey()} {
		switch {
		case other == "":
		case key == "":
			key = other
		case key != other:
			return "", false
		}
	}
	return key, true
}

func (q *request) queryKey() string {
	if !q.to.queryKey || q.http.URL.RawQuery == "" {
		return ""
	}
	return strings.TrimSpace(q.http.URL.Query().Get("writeKey"))
}

// clientIP is the caller's address: the peer's, or behind trusted proxies the last address that none of
// them vouches for. Blank if it cannot be told.
func clientIP(r *http.Request, trusted []netip.Prefix) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	addr := peer.Addr().Unmap()
	if len(trusted) == 0 || !contains(trusted, addr) {
		return addr.WithZone("").String()
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, claimed := range slices.Backward(hops) {
		hop, err := netip.ParseAddr(strings.TrimSpace(claimed))
		if err != nil {
			break
		}
		if addr = hop.Unmap(); !contains(trusted, addr) {
			break
		}
	}
	return addr.WithZone("").String()
}

// fromTrusted is true if the request comes from a proxy that may speak for its client.
func fromTrusted(r *http.Request, trusted []netip.Prefix) bool {
	if len(trusted) == 0 {
		return false
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && contains(trusted, peer.Addr().Unmap())
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
