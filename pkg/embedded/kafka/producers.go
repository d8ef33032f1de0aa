package kafka

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
)

// producer is what pids.log says of a producer id.
type producer struct {
	id         int64
	epoch      int16
	txid       string
	timeout    int32
	lastCommit bool // the last finished transaction was committed
	at         int64
}

// producers is the replayed pids.log.
type producers struct {
	byID map[int64]*producer
	// ended has, by producer id, where its last EndTxn entry stands.
	ended map[int64]int64
}

// readProducers replays pids.log. Unlike the broker's own replay it remembers
// over an epoch bump whether the last transaction was committed, without which
// the retry of a commit is refused, and keeps one producer id for each
// transactional id, the latest.
func readProducers(dir string) (*producers, error) {
	raw, err := readIfExists(filepath.Join(dir, "pids.log"))
	if err != nil {
		return nil, err
	}
	entries, _ := readState(raw)
	ps := &producers{byID: make(map[int64]*producer), ended: make(map[int64]int64)}
	for _, e := range entries {
		var entry pidEntry
		if err := json.Unmarshal(e.data, &entry); err != nil {
			return nil, fmt.Errorf("decoding pids.log at byte %d: %w", e.at, err)
		}
		ps.apply(entry, e.at)
	}
	ps.dropSuperseded()
	return ps, nil
}

func (ps *producers) apply(entry pidEntry, at int64) {
	p := ps.byID[entry.PID]
	switch entry.Type {
	case "init":
		if p == nil {
			p = &producer{id: entry.PID}
			ps.byID[entry.PID] = p
		}
		p.txid, p.timeout, p.at = entry.TxID, entry.Timeout, at
	case "endtx":
		ps.ended[entry.PID] = at
	}
	if p == nil {
		return
	}
	p.epoch = entry.Epoch
	if entry.Type == "timeout" {
		p.lastCommit = false
	}
	if entry.Commit != nil {
		p.lastCommit = *entry.Commit
	}
}

// dropSuperseded forgets producer ids whose transactional id has a later one:
// the broker takes a new id when an epoch is exhausted.
func (ps *producers) dropSuperseded() {
	latest := make(map[string]*producer)
	for _, p := range ps.byID {
		if p.txid == "" {
			continue
		}
		if other := latest[p.txid]; other == nil || other.at < p.at {
			latest[p.txid] = p
		}
	}
	maps.DeleteFunc(ps.byID, func(_ int64, p *producer) bool {
		return p.txid != "" && latest[p.txid] != p
	})
}

// current tells whether a producer stands at an epoch.
func (ps *producers) current(id int64, epoch int16) bool {
	p := ps.byID[id]
	return p != nil && p.epoch == epoch
}

// fence ends an epoch: whoever still uses it is refused. A producer with no
// epoch left is forgotten, and its client must ask for a new id.
func (ps *producers) fence(id int64, epoch int16) {
	p := ps.byID[id]
	switch {
	case p == nil || p.epoch > epoch:
	case epoch == math.MaxInt16:
		delete(ps.byID, id)
	default:
		p.epoch, p.lastCommit = epoch+1, false
	}
}

// commit records a committed transaction; bump is the new epoch that
// transactions of version 2 get with each.
func (ps *producers) commit(id int64, bump bool) {
	p := ps.byID[id]
	p.lastCommit = true
	if bump && p.epoch < math.MaxInt16 {
		p.epoch++
	}
}

// seen takes in a producer found in a log: the log may know a higher epoch of
// an idempotent producer than pids.log, which has no entry when the client
// bumps by itself.
func (ps *producers) seen(id int64, epoch int16, transactional bool) {
	p := ps.byID[id]
	switch {
	case p == nil && !transactional:
		ps.byID[id] = &producer{id: id, epoch: epoch}
	case p != nil && p.txid == "" && p.epoch < epoch:
		p.epoch = epoch
	}
}

// write replaces pids.log by one entry for each producer; keep filters those
// without a transactional id.
func (ps *producers) write(dir string, keep func(id int64) bool) error {
	ids := slices.SortedFunc(maps.Values(ps.byID), func(a, b *producer) int { return cmp.Compare(a.id, b.id) })
	var buf []byte
	for _, p := range ids {
		if p.txid == "" && !keep(p.id) {
			continue
		}
		entry := pidEntry{Type: "init", PID: p.id, Epoch: p.epoch, TxID: p.txid, Timeout: p.timeout}
		if p.txid != "" {
			entry.Commit = &p.lastCommit
		}
		var err error
		if buf, err = appendState(buf, entry); err != nil {
			return err
		}
	}
	return replaceFile(filepath.Join(dir, "pids.log"), buf)
}
