package intake

import (
	"time"

	"github.com/sillage-cdp/sillage/services/ingest/internal/wire"
)

// Kind is what became of a call.
type Kind int

// Kinds of results.
const (
	// Taken: Kafka has every event that was accepted and every refusal; Outcome says which are which.
	Taken Kind = iota
	// Refused: nothing of the call can be taken; Problem says why.
	Refused
	// Denied: it names no usable source; Denial says why.
	Denied
	// TooFast: the source, its tenant or the identity sends too much; Wait says for how long.
	TooFast
	// Busy: it cannot be taken now; Problem.Detail says why, Wait for how long.
	Busy
)

// Denial is why a call names no usable source; the words stand in metrics.
type Denial string

// Denials.
const (
	UnknownKey    Denial = "unknown_key"
	NoKey         Denial = "no_key"
	TwoKeys       Denial = "two_keys"
	Disabled      Denial = "disabled"
	ForeignOrigin Denial = "origin"
)

// Result is what became of a call.
type Result struct {
	Kind    Kind
	Problem wire.Problem
	Denial  Denial
	Wait    time.Duration
	Outcome *wire.Outcome
}

// waitUnavailable is how long a client is asked to wait while Kafka takes no writes.
const waitUnavailable = 2 * time.Second

func busy(detail string, wait time.Duration) Result {
	return Result{Kind: Busy, Problem: wire.Problem{Detail: detail}, Wait: wait}
}

// Full is the result of a call for which there is no memory now.
func Full() Result { return busy("too many requests in flight", time.Second) }

// Stopping is the result of a call that comes too late.
func Stopping() Result { return busy("the server is stopping", time.Second) }
