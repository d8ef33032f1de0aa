package stream

import "strings"

// pending counts what a partition is waiting for: timers that are set and records that are held for
// merges. It is counted once when a store is opened and kept by what each batch changes.
type pending struct{ timers, held int64 }

// countPending walks over the names of all timers and of the runtime's own entries.
func countPending(s store) (n pending, err error) {
	count := func(kind byte, fn func(name string)) error {
		var wrong error
		err := s.scan([]byte{kind}, []byte{kind + 1}, func(key, _ []byte) bool {
			_, _, name, err := splitStoreKey(key)
			if err != nil {
				wrong = err
				return false
			}
			fn(string(name))
			return true
		})
		if err != nil {
			return err
		}
		return wrong
	}
	err = count(kindTimer, func(id string) {
		if !strings.HasPrefix(id, internalPrefix) {
			n.timers++
		}
	})
	if err != nil {
		return n, err
	}
	err = count(kindMeta, func(name string) {
		if strings.HasPrefix(name, heldPrefix) {
			n.held++
		}
	})
	return n, err
}

// timersChange is how many more timers the batch leaves than it found.
func (o *overlay) timersChange() (more int64) {
	for _, k := range o.order {
		k.tables[tableTimer].each(func(e *entry) {
			if !e.dirty || strings.HasPrefix(e.name, internalPrefix) {
				return
			}
			if e.value != nil {
				more++
			}
			if e.base != nil {
				more--
			}
		})
	}
	return more
}

// countedStore is the store that was counted, as it stood.
type countedStore struct {
	store    *pebbleStore
	position int64
}

func standing(s *pebbleStore) countedStore {
	if s == nil {
		return countedStore{}
	}
	return countedStore{store: s, position: s.position()}
}

// recount counts anew what the store of a task has pending, unless it is as it was before a restore.
func (t *ownedTask) recount(before countedStore, s *pebbleStore) error {
	if s == nil || standing(s) == before {
		return nil
	}
	n, err := countPending(s)
	if err != nil {
		return err
	}
	t.pending = n
	return nil
}
