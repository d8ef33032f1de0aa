package person

import (
	"cmp"
	"encoding/hex"
	"slices"

	journeyv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/journey/v1"
)

func (p *Person) running() *journeyv1.RunningInstances {
	return load(p, nameRunning, func() *journeyv1.RunningInstances { return &journeyv1.RunningInstances{} })
}

// Running is a copy of the list of passages under way, ordered by entry.
func (p *Person) Running() []*journeyv1.Instance {
	return slices.Clone(p.running().GetInstances())
}

// AnyRunning says whether a passage is under way.
func (p *Person) AnyRunning() bool {
	if _, loaded := p.parts[nameRunning]; !loaded {
		// Most persons are in no journey: that costs one look-up and no memory.
		if _, kept := p.read.Get(nameRunning); !kept {
			return false
		}
	}
	return len(p.running().GetInstances()) > 0
}

// Instance is the passage under way through a journey; nil if there is none.
func (p *Person) Instance(journey string) *journeyv1.Instance {
	for _, inst := range p.running().GetInstances() {
		if inst.GetJourney() == journey {
			return inst
		}
	}
	return nil
}

// Full says whether no further passage may begin.
func (p *Person) Full() bool { return len(p.running().GetInstances()) >= MaxRunning }

// InstanceChanged notes that a passage under way was changed.
func (p *Person) InstanceChanged() {
	p.running()
	p.touch(nameRunning)
}

// AddInstance adds a passage; the caller has seen that there is none of its journey.
func (p *Person) AddInstance(inst *journeyv1.Instance) {
	running := p.running()
	at, _ := slices.BinarySearchFunc(running.Instances, inst, Older)
	running.Instances = slices.Insert(running.Instances, at, inst)
	p.touch(nameRunning)
}

// RemoveInstance takes a passage out, with its frozen definition if no other follows it.
func (p *Person) RemoveInstance(inst *journeyv1.Instance) {
	running := p.running()
	running.Instances = slices.DeleteFunc(running.Instances, func(i *journeyv1.Instance) bool { return i == inst })
	p.touch(nameRunning)
	for _, other := range running.Instances {
		if string(other.GetDefinitionHash()) == string(inst.GetDefinitionHash()) {
			return
		}
	}
	name := frozenName(inst.GetDefinitionHash())
	if _, kept := p.read.Get(name); kept {
		p.write.Delete(name)
	}
}

// Older orders passages by entry, then by id.
func Older(a, b *journeyv1.Instance) int {
	return cmp.Or(cmp.Compare(a.GetEnteredMs(), b.GetEnteredMs()), cmp.Compare(a.GetInstanceId(), b.GetInstanceId()))
}

// Frozen is the frozen definition of this hash, if it is kept.
func (p *Person) Frozen(hash []byte) ([]byte, bool) { return p.read.Get(frozenName(hash)) }

// KeepFrozen keeps a frozen definition for as long as a passage follows it.
func (p *Person) KeepFrozen(hash, frozen []byte) {
	name := frozenName(hash)
	if _, kept := p.read.Get(name); !kept {
		p.write.Put(name, slices.Clone(frozen))
	}
}

func frozenName(hash []byte) string { return prefixFrozen + hex.EncodeToString(hash) }

// Histories is what is remembered of all journeys.
func (p *Person) Histories() *journeyv1.JourneyHistories {
	return load(p, nameHistory, func() *journeyv1.JourneyHistories { return &journeyv1.JourneyHistories{} })
}

// HistoryChanged notes that a history was changed.
func (p *Person) HistoryChanged() { p.touch(nameHistory) }

// History is what is remembered of a journey; nil if it was never entered.
func (p *Person) History(journey string) *journeyv1.JourneyHistory {
	histories := p.Histories().GetJourneys()
	if at, found := findHistory(histories, journey); found {
		return histories[at]
	}
	return nil
}

// EnsureHistory is History, begun if need be. Beyond MaxHistories the journey left longest ago is
// forgotten, those that gone says are no longer defined first.
func (p *Person) EnsureHistory(journey string, gone func(journey string) bool) *journeyv1.JourneyHistory {
	all := p.Histories()
	at, found := findHistory(all.Journeys, journey)
	if !found {
		all.Journeys = slices.Insert(all.Journeys, at, &journeyv1.JourneyHistory{Journey: journey})
	}
	entry := all.Journeys[at]
	for len(all.Journeys) > MaxHistories {
		all.Journeys = forgetOne(all.Journeys, entry, gone)
	}
	p.touch(nameHistory)
	return entry
}

func findHistory(histories []*journeyv1.JourneyHistory, journey string) (int, bool) {
	return slices.BinarySearchFunc(histories, journey, func(h *journeyv1.JourneyHistory, name string) int {
		return cmp.Compare(h.GetJourney(), name)
	})
}

func forgetOne(histories []*journeyv1.JourneyHistory, keep *journeyv1.JourneyHistory, gone func(string) bool) []*journeyv1.JourneyHistory {
	rank := func(h *journeyv1.JourneyHistory) int {
		if gone(h.GetJourney()) {
			return 0
		}
		return 1
	}
	oldest := -1
	for i, h := range histories {
		if h == keep {
			continue
		}
		if oldest < 0 || cmp.Or(cmp.Compare(rank(h), rank(histories[oldest])), cmp.Compare(h.GetLastExitedMs(), histories[oldest].GetLastExitedMs())) < 0 {
			oldest = i
		}
	}
	return slices.Delete(histories, oldest, oldest+1)
}
