// Package geo looks addresses up in a database of the MaxMind format (GeoLite2, GeoIP2, DB-IP and others of
// the same layout) that the operator provides. Without a file nothing is known of any address.
//
// What it promises: a lookup never fails a caller; a file that is damaged or of another kind is an error of
// Open (TestOpen). The file is mapped into memory and read at Open only: a newer one needs a restart.
package geo

import (
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/oschwald/maxminddb-golang/v2"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
)

// Database is a file of places. It is safe for concurrent use; between Open and Close it knows places, before
// and after it knows none.
type Database struct {
	path   string
	reader atomic.Pointer[maxminddb.Reader]
}

// New names the file; an empty path is a database without a place.
func New(path string) *Database { return &Database{path: path} }

// Open reads the file.
func (d *Database) Open() error {
	if d.path == "" || d.reader.Load() != nil {
		return nil
	}
	reader, err := maxminddb.Open(d.path)
	if err != nil {
		return fmt.Errorf("opening the database of places %s: %w", d.path, err)
	}
	d.reader.Store(reader)
	return nil
}

// Close lets go of the file. Nobody may look anything up meanwhile.
func (d *Database) Close() error {
	reader := d.reader.Swap(nil)
	if reader == nil {
		return nil
	}
	if err := reader.Close(); err != nil {
		return fmt.Errorf("closing the database of places: %w", err)
	}
	return nil
}

// record is what is read of an entry.
type record struct {
	Country struct {
		Code string `maxminddb:"iso_code"`
	} `maxminddb:"country"`
	Subdivisions []struct {
		Code string `maxminddb:"iso_code"`
	} `maxminddb:"subdivisions"`
	City struct {
		Names struct {
			English string `maxminddb:"en"`
		} `maxminddb:"names"`
	} `maxminddb:"city"`
}

// Locate is where an address is; nil if that is not known.
func (d *Database) Locate(addr netip.Addr) *eventv1.Geo {
	reader := d.reader.Load()
	if reader == nil {
		return nil
	}
	var found record
	if err := reader.Lookup(addr).Decode(&found); err != nil || found.Country.Code == "" {
		return nil
	}
	geo := &eventv1.Geo{Country: found.Country.Code, City: found.City.Names.English}
	if len(found.Subdivisions) > 0 {
		geo.Region = found.Subdivisions[0].Code
	}
	return geo
}
