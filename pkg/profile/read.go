package profile

import (
	"bytes"
	"maps"
	"slices"
	"sync"
	"time"
	_ "time/tzdata" // the zones, also on a machine without a zone database

	"github.com/tidwall/gjson"

	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
)

// DefaultCategory is the category of a send whose definition names none.
const DefaultCategory = "marketing"

// TraitsJSON is the profile's traits as one JSON object, sorted by name, without those that were deleted.
func TraitsJSON(p *profilev1.Profile) []byte {
	var out bytes.Buffer
	out.WriteByte('{')
	for _, name := range slices.Sorted(maps.Keys(p.GetTraits())) {
		value := p.GetTraits()[name].GetJson()
		if len(value) == 0 {
			continue
		}
		if out.Len() > 1 {
			out.WriteByte(',')
		}
		out.Write(gjson.AppendJSONString(nil, name))
		out.WriteByte(':')
		out.Write(value)
	}
	out.WriteByte('}')
	return out.Bytes()
}

// ConsentFor says whether the person agrees to messages of a category (empty: DefaultCategory) on a
// channel, and whether anything is known of it. A refusal of the channel or of the category wins over
// any agreement; without a refusal, agreement to either is agreement.
func ConsentFor(p *profilev1.Profile, channel, category string) (granted, known bool) {
	if category == "" {
		category = DefaultCategory
	}
	for _, purpose := range []string{channelPurpose + channel, category} {
		consent, ok := p.GetConsents()[purpose]
		if !ok {
			continue
		}
		if !consent.GetGranted() {
			return false, true
		}
		granted, known = true, true
	}
	return granted, known
}

// Location is the person's time zone: the `timezone` trait if it names one, else the tenant's, else UTC.
func Location(p *profilev1.Profile, tenantTZ string) *time.Location {
	if value := p.GetTraits()["timezone"].GetJson(); len(value) > 0 {
		if location, ok := zone(gjson.ParseBytes(value).Str); ok {
			return location
		}
	}
	if location, ok := zone(tenantTZ); ok {
		return location
	}
	return time.UTC
}

// zones remembers the zones that were loaded: reading one takes a file. It holds only names that exist,
// some six hundred at most, and always the same value for a name.
var zones sync.Map

func zone(name string) (*time.Location, bool) {
	// `Local` would be the zone of the machine.
	if name == "" || name == "Local" || len(name) > 64 {
		return nil, false
	}
	if known, ok := zones.Load(name); ok {
		location, ok := known.(*time.Location)
		return location, ok
	}
	location, err := time.LoadLocation(name)
	if err != nil {
		return nil, false
	}
	zones.Store(name, location)
	return location, true
}
