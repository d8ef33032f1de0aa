package kafka

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"time"
)

const (
	agesFile = "sillage-ages.json"
	// agePoints is how finely the age of records is known: to this part of the
	// retention time.
	agePoints = 32
)

// agePoint says that all records before an offset were written by a time.
type agePoint struct {
	At  int64 `json:"at"` // Unix milliseconds
	End int64 `json:"end"`
}

// ages knows how old records are by when they were written. Neither a record's
// timestamp tells that, which its producer chooses (an import of last year's
// events carries last year's), nor does the broker write it down.
type ages struct {
	Points map[string][]agePoint `json:"points"` // by partition
}

// ageKey names a partition of one incarnation of a topic.
func ageKey(id [16]byte, partition int32) string {
	return fmt.Sprintf("%x/%d", id, partition)
}

// loadAges reads what an earlier broker knew. What cannot be read is forgotten:
// records are then kept longer, never shorter.
func loadAges(dir string) *ages {
	a := &ages{}
	if raw, err := readIfExists(filepath.Join(dir, agesFile)); err == nil && len(raw) > 0 {
		if err := json.Unmarshal(raw, a); err != nil {
			a = &ages{}
		}
	}
	if a.Points == nil {
		a.Points = make(map[string][]agePoint)
	}
	return a
}

func (a *ages) save(dir string) error {
	raw, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encoding the ages of records: %w", err)
	}
	return replaceFile(filepath.Join(dir, agesFile), raw)
}

// observe notes where a partition ends now.
func (a *ages) observe(key string, end int64, now time.Time, retention time.Duration) {
	ps := a.Points[key]
	if n := len(ps); n > 0 {
		last := ps[n-1]
		if end <= last.End || now.UnixMilli()-last.At < (retention/agePoints).Milliseconds() {
			return
		}
	} else if end == 0 {
		return
	}
	a.Points[key] = append(ps, agePoint{At: now.UnixMilli(), End: end})
}

// floor is the offset before which all records are older than the retention
// time, 0 if none are known to be.
func (a *ages) floor(key string, now time.Time, retention time.Duration) int64 {
	ps := a.Points[key]
	expired := now.Add(-retention).UnixMilli()
	last := -1
	for i, p := range ps {
		if p.At <= expired {
			last = i
		}
	}
	if last < 0 {
		return 0
	}
	a.Points[key] = ps[last:] // the last one is needed: a crash may bring its records back
	return ps[last].End
}

// keep forgets partitions that are no more.
func (a *ages) keep(live map[string]bool) {
	maps.DeleteFunc(a.Points, func(key string, _ []agePoint) bool { return !live[key] })
}
