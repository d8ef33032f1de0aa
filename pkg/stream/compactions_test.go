package stream

import (
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"
)

// eager is a database that has so much to compact.
type eager struct {
	c       *compactions
	waiting int
	running int
	meddle  func() // called while it is asked
}

func (e *eager) GetAllowedWithoutPermission() int { return 1 }

func (e *eager) GetWaitingCompaction() (bool, pebble.WaitingCompaction) {
	there := e.waiting > 0
	if e.meddle != nil {
		e.meddle()
	}
	return there, pebble.WaitingCompaction{}
}

func (e *eager) Schedule(pebble.CompactionGrantHandle) bool {
	e.waiting--
	e.running++
	return true
}

// want is what Pebble does when it finds something to compact.
func (e *eager) want() {
	if ok, _ := e.c.TrySchedule(); ok {
		e.running++
	} else {
		e.waiting++
	}
}

func (e *eager) done() {
	e.running--
	e.c.Done()
}

func TestOneCompactionAtATimeAndNoneAtRest(t *testing.T) {
	e := &eager{c: newCompactions()}
	e.c.Register(1, e)
	e.c.rest(true)
	for range 3 {
		e.want()
	}
	require.Equal(t, []int{3, 0}, []int{e.waiting, e.running}, "it rests")
	e.c.rest(false)
	require.Equal(t, []int{2, 1}, []int{e.waiting, e.running}, "who was refused is asked")
	e.want()
	require.Equal(t, []int{3, 1}, []int{e.waiting, e.running}, "one at a time")
	for range 4 {
		e.done()
	}
	require.Equal(t, []int{0, 0}, []int{e.waiting, e.running}, "each had its turn")

	e.c.rest(true)
	asked := 0
	e.meddle = func() {
		if asked++; asked == 1 {
			e.want() // it had nothing, and finds something just after it has said so
		}
	}
	e.c.rest(false)
	require.Equal(t, []int{0, 1}, []int{e.waiting, e.running}, "what is refused while it is asked is asked for again")
	e.c.Unregister()
	e.meddle = nil
	e.want()
	e.done()
	require.Equal(t, []int{1, 0}, []int{e.waiting, e.running}, "nothing begins in a store that closes")
}
