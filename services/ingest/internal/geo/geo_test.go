package geo_test

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/stretchr/testify/require"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	"github.com/sillage-cdp/sillage/services/ingest/internal/geo"
)

// write makes a database with one network in Paris and one that names a country alone.
func write(t *testing.T) string {
	t.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "Test-City", IncludeReservedNetworks: true})
	require.NoError(t, err)
	insert := func(cidr string, value mmdbtype.Map) {
		_, network, err := net.ParseCIDR(cidr)
		require.NoError(t, err)
		require.NoError(t, tree.Insert(network, value))
	}
	insert("203.0.113.0/24", mmdbtype.Map{
		"country":      mmdbtype.Map{"iso_code": mmdbtype.String("FR")},
		"subdivisions": mmdbtype.Slice{mmdbtype.Map{"iso_code": mmdbtype.String("IDF")}},
		"city":         mmdbtype.Map{"names": mmdbtype.Map{"en": mmdbtype.String("Paris"), "de": mmdbtype.String("Paris")}},
	})
	insert("2001:db8::/32", mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String("NZ")}})
	path := filepath.Join(t.TempDir(), "places.mmdb")
	file, err := os.Create(path)
	require.NoError(t, err)
	_, err = tree.WriteTo(file)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	return path
}

func TestLocate(t *testing.T) {
	d := geo.New(write(t))
	paris := netip.MustParseAddr("203.0.113.77")
	require.Nil(t, d.Locate(paris), "before it is open")
	require.NoError(t, d.Open())
	want := &eventv1.Geo{Country: "FR", Region: "IDF", City: "Paris"}
	require.True(t, want.EqualVT(d.Locate(paris)))
	require.Equal(t, "NZ", d.Locate(netip.MustParseAddr("2001:db8::1")).GetCountry())
	require.Nil(t, d.Locate(netip.MustParseAddr("198.51.100.1")))
	require.Nil(t, d.Locate(netip.Addr{}))
	require.NoError(t, d.Close())
	require.NoError(t, d.Close())
	require.Nil(t, d.Locate(paris))
}

func TestOpen(t *testing.T) {
	require.NoError(t, geo.New("").Open())
	require.ErrorContains(t, geo.New(filepath.Join(t.TempDir(), "none.mmdb")).Open(), "none.mmdb")
	path := filepath.Join(t.TempDir(), "broken.mmdb")
	require.NoError(t, os.WriteFile(path, []byte("no database"), 0o600))
	require.Error(t, geo.New(path).Open())
}
