// Package balance reconciles the ledger: for each tenant, source and hour, what came through the door
// against what became of it.
//
// It promises: an event that came in and that nothing accounts for, one that is accounted for twice, and
// one of each in the same hour are all found, since events are compared by a sum of hashes of their ids
// besides their number; memory is bounded by the number of hours, not of events. TestPlantedLossesAreFound
// catches the loss of that; two sets of different events in one hour have the same sum once in 2^64.
package balance

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strings"
	"time"
)

// Hour is what is reconciled by itself.
type Hour struct {
	Tenant, Source string
	// Start is in milliseconds since the Unix epoch.
	Start int64
}

// HourOf is the hour in which an event came in.
func HourOf(tenant, source string, receivedAtMs int64) Hour {
	const hour = int64(time.Hour / time.Millisecond)
	return Hour{Tenant: tenant, Source: source, Start: receivedAtMs - receivedAtMs%hour}
}

// Fate is what became of an event.
type Fate int

// Fates, besides having come in.
const (
	// Accepted is no fate: the event came in.
	Accepted Fate = iota
	Stored
	Deduplicated
	Rejected
	Suppressed
	// DeadLetter is an event that could not be handled and waits among the dead letters.
	DeadLetter
	fates
)

// String is the word that the ledger's table has for a fate.
func (f Fate) String() string {
	return [...]string{"accepted", "stored", "deduplicated", "rejected", "suppressed", "dead letter"}[f]
}

// FateOf is the fate of a word.
func FateOf(word string) (Fate, bool) {
	for f := range fates {
		if f.String() == word {
			return f, true
		}
	}
	return 0, false
}

// Tally is what happened in one hour.
type Tally struct {
	// Events counts by fate.
	Events [fates]int64
	// sum is that of the hashes of what came in, less those of what is accounted for: 0 in balance.
	sum uint64
}

// Difference is how many events are not accounted for; negative if more are than came in.
func (t *Tally) Difference() int64 {
	d := t.Events[Accepted]
	for f := Stored; f < fates; f++ {
		d -= t.Events[f]
	}
	return d
}

// Balanced says whether each event that came in is accounted for once.
func (t *Tally) Balanced() bool { return t.Difference() == 0 && t.sum == 0 }

// Book tallies hours.
type Book struct {
	hours map[Hour]*Tally
	// only, if set, are the hours whose ids are kept.
	ids map[Hour]map[string]int64
}

// NewBook returns an empty book. It keeps the ids of the events of the hours that are given.
func NewBook(keep ...Hour) *Book {
	b := &Book{hours: make(map[Hour]*Tally), ids: make(map[Hour]map[string]int64)}
	for _, h := range keep {
		b.ids[h] = make(map[string]int64)
	}
	return b
}

// Add books n events of an id: as Accepted when it comes in, as its fate when it is accounted for. An event
// that was refused at the door is booked both ways.
func (b *Book) Add(h Hour, fate Fate, messageID string) {
	t := b.hours[h]
	if t == nil {
		t = &Tally{}
		b.hours[h] = t
	}
	t.Events[fate]++
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(messageID)) // a hash never fails
	sign := int64(1)
	if fate != Accepted {
		sign = -1
	}
	t.sum += uint64(sign) * spread(hash.Sum64())
	if ids := b.ids[h]; ids != nil {
		if ids[messageID] += sign; ids[messageID] == 0 {
			delete(ids, messageID)
		}
	}
}

// spread is the finalizer of MurmurHash3 (Appleby, public domain): FNV alone would let sums of short ids meet.
func spread(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// Hours lists the hours in order.
func (b *Book) Hours() []Hour {
	hours := make([]Hour, 0, len(b.hours))
	for h := range b.hours {
		hours = append(hours, h)
	}
	slices.SortFunc(hours, func(a, b Hour) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), strings.Compare(a.Tenant, b.Tenant), strings.Compare(a.Source, b.Source))
	})
	return hours
}

// Tally is what happened in an hour.
func (b *Book) Tally(h Hour) Tally {
	if t := b.hours[h]; t != nil {
		return *t
	}
	return Tally{}
}

// Unbalanced lists the hours that are not in balance.
func (b *Book) Unbalanced() []Hour {
	return slices.DeleteFunc(b.Hours(), func(h Hour) bool { return b.hours[h].Balanced() })
}

// Loose is an event that came in and is not accounted for, or the other way round.
type Loose struct {
	Hour      Hour
	MessageID string
	// Times is how many times too often it came in; negative if it is accounted for too often.
	Times int64
}

// Loose lists the events of the hours that the book keeps ids of, in order.
func (b *Book) Loose() []Loose {
	var list []Loose
	for h, ids := range b.ids {
		for id, n := range ids {
			list = append(list, Loose{h, id, n})
		}
	}
	slices.SortFunc(list, func(a, b Loose) int {
		return cmp.Or(cmp.Compare(a.Hour.Start, b.Hour.Start), strings.Compare(a.Hour.Tenant+"\x00"+a.Hour.Source, b.Hour.Tenant+"\x00"+b.Hour.Source), strings.Compare(a.MessageID, b.MessageID))
	})
	return list
}
