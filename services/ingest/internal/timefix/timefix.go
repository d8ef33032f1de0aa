// Package timefix decides when an event happened. A producer's clock may be wrong by years, and a queue
// in a browser may hold an event for days; what is known for certain is only when the event came in and,
// if the producer says it, how long before sending it happened.
//
// The correction is Segment's: timestamp = receivedAt - (sentAt - originalTimestamp). It cancels a wrong
// clock exactly, whatever its error, as long as the clock ran evenly between event and sending. The
// guards around it are ours. TestClockErrorCancels and TestNeverBeyondTheGuards catch their loss.
//
// All times are milliseconds since the Unix epoch, UTC; 0 means "not said".
package timefix

import "time"

// Guards around the correction.
const (
	// MaxSkew is the largest clock error of a live producer that is corrected; with a larger one the
	// producer's times say nothing and the time of arrival stands.
	MaxSkew = 24 * time.Hour
	// MaxFuture is how far ahead of its arrival an event may claim to be.
	MaxFuture = 5 * time.Minute
)

// Claim is what is known of one event's time.
type Claim struct {
	// OriginalMs is when it happened by the producer's clock.
	OriginalMs int64
	// SentMs is when it was sent by the producer's clock.
	SentMs int64
	// ReceivedMs is when ingest took it in; never 0.
	ReceivedMs int64
	// Import is true on the historical lane: OriginalMs is then history's own time and never corrected.
	Import bool
	// HistoryAfter is the age from which a live event is historical; 0 or less means never.
	HistoryAfter time.Duration
}

// Adjustment says what was done to a claim.
type Adjustment uint8

// What can be done to a claim.
const (
	// Trusted: the producer's time stands (no sentAt, or an import).
	Trusted Adjustment = iota
	// Corrected: shifted by the producer's clock error.
	Corrected
	// Absent: the producer gave no time; arrival stands.
	Absent
	// Negative: sent before it happened; arrival stands.
	Negative
	// Skewed: the clock error exceeds MaxSkew; arrival stands.
	Skewed
	// Clamped: it claimed to be more than MaxFuture ahead and was drawn back to that.
	Clamped
	// Count is how many values Adjustment has.
	Count
)

// String is the adjustment as metrics name it.
func (a Adjustment) String() string {
	names := [Count]string{"trusted", "corrected", "absent", "negative", "skewed", "clamped"}
	if a >= Count {
		return "unknown"
	}
	return names[a]
}

// Verdict is when an event happened, as everything downstream sees it.
type Verdict struct {
	// TimestampMs is when it happened.
	TimestampMs int64
	// Historical is true if the event may move segments and scores but no journey.
	Historical bool
	// Adjustment is how TimestampMs came about.
	Adjustment Adjustment
}

// Correct decides when an event happened.
func Correct(c Claim) Verdict {
	at, how := happened(c)
	if limit := c.ReceivedMs + MaxFuture.Milliseconds(); at > limit {
		at, how = limit, Clamped
	}
	old := c.HistoryAfter > 0 && c.ReceivedMs-at > c.HistoryAfter.Milliseconds()
	return Verdict{TimestampMs: at, Historical: c.Import || old, Adjustment: how}
}

func happened(c Claim) (int64, Adjustment) {
	switch {
	case c.OriginalMs == 0:
		return c.ReceivedMs, Absent
	case c.SentMs == 0 || c.Import:
		return c.OriginalMs, Trusted
	case c.SentMs < c.OriginalMs:
		return c.ReceivedMs, Negative
	case abs(c.ReceivedMs-c.SentMs) > MaxSkew.Milliseconds():
		return c.ReceivedMs, Skewed
	}
	return c.ReceivedMs - (c.SentMs - c.OriginalMs), Corrected
}

func abs(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}
