// Package enrich adds to an event what can be told at the door: device and browser from the user agent and its
// client hints, the campaign and the channel that brought the visitor, whether a bot wrote it, and where its
// address is; and it keeps of the address no more than its source wants. It is pure: it is given a locator for
// places, and knows no file, clock or network.
//
// What it promises: the documents of an event change in nothing but `context.ip`; what a producer states
// (context.campaign) comes before what is derived; what it derives comes from short fixed lists (browsers,
// systems, channels), so that no column grows with what producers make up; caches are bounded whatever they
// send. TestAgents, TestChannels, TestAddress and FuzzApply catch the loss; BenchmarkApply is its cost.
package enrich

import (
	"net/netip"
	"strings"
	"unsafe"

	"github.com/tidwall/gjson"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
)

// Locator tells where an address is; nil for one that it does not know. Implementations are safe for
// concurrent use, and what they return is not changed.
type Locator interface {
	Locate(addr netip.Addr) *eventv1.Geo
}

// Address is what is kept of an IP address.
type Address uint8

// What is kept of an IP address.
const (
	// Keep keeps all of it.
	Keep Address = iota
	// Shorten keeps the network: 24 bits of IPv4, 48 of IPv6.
	Shorten
	// Drop keeps nothing.
	Drop
)

// Settings are what a source wants.
type Settings struct {
	Address Address
}

// Enricher holds what was parsed before. It is safe for concurrent use.
type Enricher struct {
	agents  cache[agent]
	places  cache[*eventv1.Geo]
	locator Locator
}

const (
	// keptAgents and keptPlaces bound the caches: twice as many entries at most.
	keptAgents = 4096
	keptPlaces = 16_384
	// maxAgent is the longest user agent that is looked at.
	maxAgent = 1024
)

// New returns an enricher; a nil locator tells no places.
func New(locator Locator) *Enricher {
	return &Enricher{agents: cache[agent]{limit: keptAgents}, places: cache[*eventv1.Geo]{limit: keptPlaces}, locator: locator}
}

// Apply enriches an event. userAgent is the request's own, for a visitor whose event does not state one; blank
// if the request is no browser's. The event's context must be a JSON object or empty.
func (e *Enricher) Apply(ev *eventv1.Event, settings Settings, userAgent string) {
	stated := read(ev.GetContext())
	if stated.userAgent != "" {
		userAgent = stated.userAgent
	} else if !strings.HasPrefix(userAgent, "Mozilla/") {
		userAgent = "" // a library or a tool: it says nothing of the person
	}
	e.client(ev, userAgent, stated.hints)
	fillCampaign(ev)
	ev.Channel = Channel(ev)
	e.address(ev, settings.Address, stated.ip)
}

// circumstances are the members of a context that are looked at.
type circumstances struct {
	userAgent string
	hints     gjson.Result
	ip        gjson.Result
}

// read finds them in one pass.
func read(context []byte) (c circumstances) {
	if len(context) == 0 {
		return c
	}
	// A view, not a copy: nothing of it is kept, and nobody writes to it.
	text := unsafe.String(unsafe.SliceData(context), len(context)) //nolint:gosec // the comment above is the audit
	gjson.Parse(text).ForEach(func(key, value gjson.Result) bool {
		switch key.Str {
		case "userAgent":
			if value.Type == gjson.String {
				c.userAgent = value.Str
			}
		case "userAgentData":
			if value.IsObject() {
				c.hints = value
			}
		case "ip":
			c.ip = value
		}
		return true
	})
	return c
}

// client sets the person's program and device, and the mark of a bot.
func (e *Enricher) client(ev *eventv1.Event, userAgent string, hints gjson.Result) {
	if userAgent == "" && !hints.Exists() {
		return
	}
	if len(userAgent) > maxAgent {
		userAgent = userAgent[:maxAgent]
	}
	a, ok := e.agents.get(userAgent)
	if !ok {
		a = parseAgent(userAgent)
		e.agents.put(userAgent, a)
	}
	ev.Bot = a.bot
	ev.Client = a.client
	if hints.Exists() && !a.bot {
		ev.Client = withHints(a.client, hints)
	}
}

// address locates the event's address and keeps of it what the source wants.
func (e *Enricher) address(ev *eventv1.Event, keep Address, ip gjson.Result) {
	if !ip.Exists() {
		return
	}
	addr, err := netip.ParseAddr(ip.Str)
	if err == nil && ip.Type == gjson.String {
		ev.Geo = e.locate(addr.Unmap().WithZone(""))
	}
	switch keep {
	case Keep:
	case Shorten:
		replacement := `""`
		if err == nil && ip.Type == gjson.String {
			replacement = `"` + shorten(addr).String() + `"`
		}
		ev.Context = splice(ev.GetContext(), ip, replacement)
	case Drop:
		ev.Context = splice(ev.GetContext(), ip, `""`)
	}
}

func (e *Enricher) locate(addr netip.Addr) *eventv1.Geo {
	if e.locator == nil {
		return nil
	}
	key := addr.String()
	geo, ok := e.places.get(key)
	if !ok {
		geo = e.locator.Locate(addr)
		e.places.put(key, geo)
	}
	return geo
}

// shorten is the network of an address.
func shorten(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	bits := 48
	if addr.Is4() {
		bits = 24
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return netip.Addr{}
	}
	return prefix.Addr()
}

// splice writes an object anew with another value in the place of a member's. The bytes that come in are
// shared and stay as they are.
func splice(object []byte, member gjson.Result, value string) []byte {
	out := make([]byte, 0, len(object)+len(value))
	out = append(out, object[:member.Index]...)
	out = append(out, value...)
	return append(out, object[member.Index+len(member.Raw):]...)
}
