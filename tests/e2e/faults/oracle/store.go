package oracle

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/cockroachdb/pebble/v2"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Change is one record of a changelog; a nil value deletes.
type Change struct {
	Offset     int64
	Key, Value []byte
}

// Changelog is everything that was ever committed to a changelog, by partition and in order.
type Changelog map[int32][]Change

// ReadChangelog reads a changelog to its end, committed transactions only. It fails if a transaction is
// open: then there is no end.
func ReadChangelog(ctx context.Context, brokers []string, topic string) (Changelog, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords())
	if err != nil {
		return nil, fmt.Errorf("making the client that reads %s: %w", topic, err)
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("looking up the end of %s: %w", topic, err)
	}
	log, open := Changelog{}, map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		log[o.Partition] = nil
		if o.Offset > 0 {
			open[o.Partition] = o.Offset
		}
	})
	for len(open) > 0 {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("reading %s: partitions %v were not read to their end: %w", topic, open, err)
		}
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("reading %s: %w", topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= open[r.Partition] {
				delete(open, r.Partition)
			}
			if !r.Attrs.IsControl() {
				log[r.Partition] = append(log[r.Partition], Change{Offset: r.Offset, Key: r.Key, Value: r.Value})
			}
		})
	}
	return log, nil
}

// Replay is the state that the changelog gives.
func (c Changelog) Replay() (map[Entry][]byte, error) {
	state := map[Entry][]byte{}
	for partition := range c {
		for key, value := range c.upTo(partition, 1<<62) {
			e, err := parseEntry([]byte(key))
			if err != nil {
				return nil, err
			}
			if _, ok := state[e]; ok {
				return nil, fmt.Errorf("%c %s %s is in two partitions", e.Kind, e.Key, e.Name)
			}
			state[e] = value
		}
	}
	return state, nil
}

// upTo is what the changes of a partition before an offset come to.
func (c Changelog) upTo(partition int32, offset int64) map[string][]byte {
	state := map[string][]byte{}
	for _, change := range c[partition] {
		if change.Offset >= offset {
			break
		}
		if change.Value == nil {
			delete(state, string(change.Key))
		} else {
			state[string(change.Key)] = change.Value
		}
	}
	return state
}

// parseEntry takes a key of a changelog apart: kind, length of the key (2 bytes), key, name.
func parseEntry(k []byte) (Entry, error) {
	if len(k) < 3 || len(k) < 3+int(binary.BigEndian.Uint16(k[1:])) {
		return Entry{}, fmt.Errorf("%q is no key of a changelog", k)
	}
	n := 3 + int(binary.BigEndian.Uint16(k[1:]))
	return Entry{Kind: k[0], Key: string(k[3:n]), Name: string(k[n:])}, nil
}

// Stores compares the local stores of all instances of a topology, which have stopped, with the replay of
// its changelog: each store holds exactly what was committed before the offset that it says, and for each
// partition one store is at the end. The due index follows from the timers; a store whose restore was cut
// short has none yet.
func (c Changelog) Stores(topology string, dataDirs []string) (Verdict, error) {
	var v Verdict
	furthest := map[int32]int64{}
	for _, dir := range dataDirs {
		found, err := os.ReadDir(filepath.Join(dir, topology))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return v, fmt.Errorf("looking for stores: %w", err)
		}
		for _, entry := range found {
			number, err := strconv.ParseInt(entry.Name(), 10, 32)
			if err != nil || !entry.IsDir() {
				continue
			}
			partition, path := int32(number), filepath.Join(dir, topology, entry.Name())
			have, err := readStore(path)
			if err != nil {
				return v, fmt.Errorf("reading the store %s: %w", path, err)
			}
			want := c.upTo(partition, have.position)
			if !have.loading {
				want = withDue(want)
				furthest[partition] = max(furthest[partition], have.position)
			}
			v.Add(compareStore(path, have.entries, want))
		}
	}
	for partition, changes := range c {
		if n := len(changes); n > 0 && furthest[partition] <= changes[n-1].Offset {
			v.notef(&v.Lost, 1, "partition %d of %s: no store is at the end of the changelog (%d of %d)", partition, topology, furthest[partition], changes[n-1].Offset)
		}
	}
	return v, nil
}

func compareStore(path string, have, want map[string][]byte) Verdict {
	v := Verdict{Checked: len(want)}
	for key, value := range want {
		if got, ok := have[key]; !ok {
			v.notef(&v.Lost, 1, "store %s: %q is not there", path, key)
		} else if !bytes.Equal(got, value) {
			v.notef(&v.Wrong, 1, "store %s: %q is %x and by the changelog %x", path, key, got, value)
		}
	}
	for key := range have {
		if _, ok := want[key]; !ok {
			v.notef(&v.Wrong, 1, "store %s: %q is not in the changelog", path, key)
		}
	}
	return v
}

// withDue adds the index of timers by due time: 'd', due time with its sign bit flipped, key, id. A timer's
// value begins with its due time.
func withDue(state map[string][]byte) map[string][]byte {
	all := make(map[string][]byte, len(state))
	for key, value := range state {
		all[key] = value
		if key[0] == 't' && len(value) >= 8 {
			index := binary.BigEndian.AppendUint64([]byte{'d'}, binary.BigEndian.Uint64(value)^1<<63)
			all[string(index)+key[1:]] = value
		}
	}
	return all
}

// local is what a store holds, and the changelog offset that it says it stands at.
type local struct {
	entries  map[string][]byte
	position int64
	// loading says that its restore was cut short: it has no due index yet.
	loading bool
}

// readStore reads a store. Its own entry ('m') is format, id of the changelog (16 bytes), offset, whether it
// is loading, time.
func readStore(path string) (l local, err error) {
	db, err := pebble.Open(path, &pebble.Options{ReadOnly: true, Logger: silent{}})
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	it, err := db.NewIter(nil)
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	l.entries = map[string][]byte{}
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return l, err
		}
		if it.Key()[0] == 'm' {
			if len(value) < 26 {
				return l, fmt.Errorf("its stamp has %d bytes", len(value))
			}
			l.position, l.loading = int64(binary.BigEndian.Uint64(value[17:])), value[25] == 1
			continue
		}
		l.entries[string(it.Key())] = bytes.Clone(value)
	}
	return l, it.Error()
}

// silent drops Pebble's commentary.
type silent struct{}

// Infof does nothing.
func (silent) Infof(string, ...any) {}

// Errorf does nothing: errors are returned as well.
func (silent) Errorf(string, ...any) {}

// Fatalf ends the test: Pebble cannot go on.
func (silent) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
