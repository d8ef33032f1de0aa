package stream

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Upgrade is how Topology.Upgrade acts on one key: on what the key holds, in the version that it was
// written in, with the names and payloads that version used. It is valid during the call.
type Upgrade struct {
	ctx  *Context
	from int
}

// From is the version in which the key was written; it is less than the topology's StateVersion, and may
// be less by more than one.
func (u *Upgrade) From() int { return u.from }

// Key is the key whose state is upgraded.
func (u *Upgrade) Key() []byte { return u.ctx.Key() }

// Get returns the value of a name, and false if it has none.
func (u *Upgrade) Get(name string) ([]byte, bool) { return u.ctx.Get(name) }

// Put sets the value of a name; it is copied.
func (u *Upgrade) Put(name string, value []byte) { u.ctx.Put(name, value) }

// Delete removes a name; one that is not there is no error.
func (u *Upgrade) Delete(name string) { u.ctx.Delete(name) }

// Range calls fn for every name that begins with prefix, as [Context.Range] does.
func (u *Upgrade) Range(prefix string, fn func(name string, value []byte) bool) {
	u.ctx.Range(prefix, fn)
}

// Timers calls fn for every timer that is set, in id order, until fn returns false. fn may set and cancel
// timers; whether the walk still meets those ahead of it is not defined.
func (u *Upgrade) Timers(fn func(id string, due time.Time, payload []byte) bool) {
	u.ctx.task.over.scan(u.ctx.key, tableTimer, "", func(id string, value []byte) bool {
		timer, err := parseTimerValue(value)
		if err != nil || strings.HasPrefix(id, internalPrefix) {
			return true
		}
		return fn(id, fromMillis(timer.due), timer.payload)
	})
}

// SetTimer sets a timer, in place of one of the same id.
func (u *Upgrade) SetTimer(id string, due time.Time, payload []byte) {
	u.ctx.SetTimer(id, due, payload)
}

// CancelTimer cancels a timer; one that is not set is no error.
func (u *Upgrade) CancelTimer(id string) { u.ctx.CancelTimer(id) }

// errUpgrade marks a key that Topology.Upgrade could not upgrade. Its partition stands still as it was.
var errUpgrade = errors.New("the state of a key could not be upgraded")

// versionName is the runtime's entry, under the empty key, that says which version the state of the
// partition is of. It goes to the changelog like everything else. Without it the version is 0.
const versionName = "v"

// stateVersions says which version the state of each key of a partition is of. Keys are compared as they
// are in the store: by length first.
type stateVersions struct {
	// target is what an upgrade leads to that is under way, or where it has led.
	target int
	// upgrading is set until all keys are of version target; then the keys up to cursor are, and rest says
	// what the others are of: the first span that a key is not beyond.
	upgrading bool
	cursor    []byte
	rest      []versionSpan
}

type versionSpan struct {
	until   []byte // nil: to the end
	version int
}

func (v *stateVersions) encode() []byte {
	var w writer
	w.byte(1)
	w.uint(uint64(v.target))
	w.bool(v.upgrading)
	w.optional(v.cursor)
	w.uint(uint64(len(v.rest)))
	for _, s := range v.rest {
		w.optional(s.until)
		w.uint(uint64(s.version))
	}
	return w.buf
}

func decodeStateVersions(data []byte) (stateVersions, error) {
	r := reader{buf: data}
	if format := r.byte(); format != 1 && r.err == nil {
		return stateVersions{}, fmt.Errorf("%w (its version is written in format %d)", errNewer, format)
	}
	v := stateVersions{target: int(r.uint()), upgrading: r.byte() == 1, cursor: r.optional()}
	for range r.count() {
		v.rest = append(v.rest, versionSpan{until: r.optional(), version: int(r.uint())})
	}
	if err := r.done(); err != nil {
		return stateVersions{}, fmt.Errorf("reading the version of the state: %w", errors.Join(errCorrupt, err))
	}
	return v, nil
}

// highest is the latest version that any key may be of.
func (v *stateVersions) highest() int {
	h := v.target
	for _, s := range v.rest {
		h = max(h, s.version)
	}
	return h
}

// of is the version of a key.
func (v *stateVersions) of(key []byte) int {
	if !v.upgrading || bytes.Compare(key, v.cursor) <= 0 && v.cursor != nil {
		return v.target
	}
	for _, s := range v.rest {
		if s.until == nil || bytes.Compare(key, s.until) <= 0 {
			return s.version
		}
	}
	return v.target
}

// towards is how to get to a version from here. An upgrade that was under way to an earlier one is not
// finished first: its keys are gone over again together with the others.
func (v *stateVersions) towards(version int) (stateVersions, error) {
	switch {
	case v.highest() > version:
		return *v, fmt.Errorf("%w (it is of version %d, the instance's is %d)", errNewer, v.highest(), version)
	case v.target == version:
		return *v, nil
	case !v.upgrading:
		return stateVersions{target: version, upgrading: true, rest: []versionSpan{{version: v.target}}}, nil
	case v.cursor == nil:
		return stateVersions{target: version, upgrading: true, rest: v.rest}, nil
	default:
		rest := append([]versionSpan{{until: v.cursor, version: v.target}}, v.rest...)
		return stateVersions{target: version, upgrading: true, rest: rest}, nil
	}
}

// versions reads what the state of the partition is of, and what is to be done about it.
func (t *task) versions() (stateVersions, error) {
	data, ok, err := t.store.get(appendStoreKey(nil, kindMeta, nil, versionName), &t.over.mem)
	if err != nil {
		return stateVersions{}, err
	}
	var v stateVersions
	if ok {
		if v, err = decodeStateVersions(bytes.Clone(data)); err != nil {
			return stateVersions{}, err
		}
	}
	return v.towards(t.top.StateVersion)
}

// upgradeKeys is how many keys one transaction upgrades, unless what they take of memory is more than
// upgradeBytes by then. One key is never divided.
const (
	upgradeKeys  = 1000
	upgradeBytes = 8 << 20
)

// upgrade upgrades the next keys, in the batch in hand, and says whether that was all. How far it came is
// part of the batch: whoever goes on begins after it, so that no key is upgraded twice.
func (t *task) upgrade(limit int) (done bool, err error) {
	v, err := t.versions()
	if err != nil || !v.upgrading {
		return err == nil, err
	}
	keys, err := t.keysAfter(v.cursor, limit)
	if err != nil {
		return false, err
	}
	done = len(keys) < limit
	for _, key := range keys {
		if t.over.mem.bytes > upgradeBytes {
			done = false
			break
		}
		from := v.of(key)
		k := t.over.bind(key[2:])
		if from < t.top.StateVersion {
			if err := t.guard(k, "", func(ctx *Context) error { return t.top.Upgrade(&Upgrade{ctx: ctx, from: from}) }); err != nil {
				return false, fmt.Errorf("%w from version %d to %d: %w", errUpgrade, from, t.top.StateVersion, err)
			}
		}
		v.cursor = key
	}
	if t.over.err != nil {
		return false, t.over.err
	}
	if done {
		v = stateVersions{target: t.top.StateVersion}
	}
	t.over.set(t.over.bind(nil), tableMeta, versionName, v.encode())
	return done, t.over.err
}

// keysAfter returns the next keys that have state or timers, in the store's order, each with its length in
// front.
func (t *task) keysAfter(after []byte, limit int) ([][]byte, error) {
	var found [][]byte
	for _, kind := range []byte{kindState, kindTimer} {
		lower := []byte{kind}
		if after != nil {
			lower = prefixEnd(append([]byte{kind}, after...))
		}
		var last []byte
		n := 0
		var wrong error
		err := t.store.scan(lower, []byte{kind + 1}, func(k, _ []byte) bool {
			_, key, _, err := splitStoreKey(k)
			if err != nil {
				wrong = errors.Join(errCorrupt, err)
				return false
			}
			if with := k[1 : 3+len(key)]; last == nil || !bytes.Equal(with, last) {
				if n == limit {
					return false
				}
				last = bytes.Clone(with)
				found = append(found, last)
				n++
			}
			return true
		})
		if err := errors.Join(err, wrong); err != nil {
			return nil, err
		}
	}
	return firstKeys(found, limit), nil
}

// upgradeSource upgrades state that came from a key of another partition and was written in an earlier
// version.
func (t *task) upgradeSource(src *Source, from int) (*Source, error) {
	store := newMemStore()
	var writes []write
	for _, e := range src.state {
		writes = append(writes, write{key: appendStoreKey(nil, kindState, src.key, e.name), value: e.value})
	}
	for _, e := range src.timers {
		value := appendTimerValue(nil, e.value.due, string(e.value.trace), e.value.payload)
		writes = append(writes, write{key: appendStoreKey(nil, kindTimer, src.key, e.id), value: value})
	}
	if err := store.apply(writes, 1); err != nil {
		return nil, err
	}
	tmp := newTask(t.top, t.partition, store)
	tmp.limits, tmp.logger = t.limits, t.logger
	tmp.begin(t.now)
	k := tmp.over.bind(src.key)
	if err := tmp.guard(k, "", func(ctx *Context) error { return t.top.Upgrade(&Upgrade{ctx: ctx, from: from}) }); err != nil {
		return nil, fmt.Errorf("%w from version %d to %d: %w", errUpgrade, from, t.top.StateVersion, err)
	}
	upgraded := &Source{key: src.key}
	tmp.over.scan(k, tableState, "", func(name string, value []byte) bool {
		upgraded.state = append(upgraded.state, named{name: name, value: bytes.Clone(value)})
		return true
	})
	var wrong error
	tmp.over.scan(k, tableTimer, "", func(id string, value []byte) bool {
		timer, err := parseTimerValue(bytes.Clone(value))
		wrong = errors.Join(wrong, err)
		upgraded.timers = append(upgraded.timers, sourceTimer{id: id, value: timer})
		return true
	})
	return upgraded, errors.Join(wrong, tmp.over.err)
}

// firstKeys returns the first of the given keys in order, each once.
func firstKeys(keys [][]byte, limit int) [][]byte {
	slices.SortFunc(keys, bytes.Compare)
	var first [][]byte
	for _, k := range keys {
		if len(first) > 0 && bytes.Equal(first[len(first)-1], k) {
			continue
		}
		if len(first) == limit {
			break
		}
		first = append(first, k)
	}
	return first
}
