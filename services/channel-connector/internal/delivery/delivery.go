// Package delivery holds what all channels share: a message ready to leave, the ways in which an attempt
// can fail, and when to try again. It is pure.
package delivery

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Message is a rendered send. Exactly one of Email and Webhook is set.
type Message struct {
	// ID is the send's id and the idempotency key of every attempt.
	ID      string
	Email   *Email
	Webhook *Webhook
}

// Email is a mail ready to leave.
type Email struct {
	To, Subject, HTML, Text string
	// UnsubscribeURL is offered in the header and unsubscribes with one POST (RFC 8058).
	UnsubscribeURL string
	// Date is the date of the header.
	Date time.Time
}

// Webhook is a payload ready to leave.
type Webhook struct {
	// Payload is a JSON object.
	Payload []byte
}

// Kind says what an attempt's failure means for the next one.
type Kind int

const (
	// Permanent says that another attempt would fail as well.
	Permanent Kind = iota + 1
	// Temporary says that a later attempt may succeed.
	Temporary
	// Throttled says that the provider asks to wait.
	Throttled
	// Ambiguous says that nobody knows whether the provider took the message.
	Ambiguous
)

// Failure is why an attempt failed.
type Failure struct {
	Kind Kind
	// Reason is a word for reports (`smtp_550`, `http_404`, `template`), without personal data.
	Reason string
	// Bounce is true if the address is what failed.
	Bounce bool
	// After is how long a provider that throttles asks to wait; 0 if it does not say.
	After time.Duration
	// Err is the cause.
	Err error
}

// Error says what failed.
func (f *Failure) Error() string { return fmt.Sprintf("%s: %v", f.Reason, f.Err) }

// Unwrap is the cause.
func (f *Failure) Unwrap() error { return f.Err }

// AsFailure is err as a failure; an unclassified one is temporary.
func AsFailure(err error) *Failure {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f
	}
	return &Failure{Kind: Temporary, Reason: "internal", Err: err}
}

// Back-off between attempts: doubling from a second to five minutes.
const (
	firstWait = time.Second
	longest   = 5 * time.Minute
)

// LongestWish bounds how long a provider's own wish to wait counts.
const LongestWish = time.Hour

// Wait is how long to wait before attempt number next (2 is the first retry). A provider's own wish
// counts if it is longer, up to LongestWish; spread, between 0 and 1, shortens a back-off by up to half so
// that many sends do not come back at once.
func Wait(f *Failure, next int, spread float64) time.Duration {
	wait := time.Duration(float64(firstWait) * math.Pow(2, float64(max(0, min(next-2, 20)))))
	wait = min(wait, longest)
	wait -= time.Duration(spread * float64(wait) / 2)
	return max(wait, min(f.After, LongestWish))
}
