package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/time/rate"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/delivery"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/smtpmail"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/webhook"
)

const (
	// laneParallel is how many attempts one tenant's channel makes at once.
	laneParallel = 8
	// breakAfter failures in a row close a lane for breakFor: the provider is down, and every further
	// attempt would only wait for its time-out.
	breakAfter = 10
	breakFor   = 15 * time.Second
	// maxAttempt bounds one attempt, whatever the channel says: a partition that goes to another
	// instance waits for it.
	maxAttempt = time.Minute
)

// lane is the way of one tenant's channel: its own limits and its own trouble, so that a slow provider
// slows nobody else.
type lane struct {
	slots   chan struct{}
	limiter *rate.Limiter
	breaker *gobreaker.CircuitBreaker[struct{}]
	send    func(context.Context, delivery.Message) error

	mu    sync.Mutex // guards until
	until time.Time  // the provider asked for no attempt before
}

func newLane(name string, channel *definitionv1.Channel, outbox string) (*lane, error) {
	send, err := sender(channel, outbox)
	if err != nil {
		return nil, err
	}
	limit := rate.Inf
	if r := channel.GetRatePerSecond(); r > 0 {
		limit = rate.Limit(r)
	}
	return &lane{
		slots:   make(chan struct{}, laneParallel),
		limiter: rate.NewLimiter(limit, max(1, min(laneParallel, int(channel.GetRatePerSecond())))),
		breaker: gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
			Name:         name,
			Timeout:      breakFor,
			MaxRequests:  1,
			ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= breakAfter },
			IsSuccessful: answers,
		}),
		send: send,
	}, nil
}

// answers says whether the provider works: an address that it refuses and a wish to wait are answers.
func answers(err error) bool {
	if err == nil {
		return true
	}
	kind := delivery.AsFailure(err).Kind
	return kind == delivery.Permanent || kind == delivery.Throttled
}

func sender(channel *definitionv1.Channel, outbox string) (func(context.Context, delivery.Message) error, error) {
	switch {
	case channel.GetEmail() != nil:
		s, err := smtpmail.New(channel.GetEmail(), outbox)
		if err != nil {
			return nil, err
		}
		return s.Send, nil
	case channel.GetWebhook() != nil:
		s, err := webhook.New(channel.GetWebhook())
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, m delivery.Message) error {
			// Receivers compare with the wall, whatever clock the stack runs on.
			return s.Send(ctx, m, time.Now())
		}, nil
	default:
		return nil, errors.New("the channel is neither email nor webhook")
	}
}

// errClosed says that the breaker is open: no attempt was made.
var errClosed = errors.New("the provider is given a pause after repeated failures")

// infraError is a fault of ours, not of the provider: nothing more can be attempted.
type infraError struct{ err error }

func (e *infraError) Error() string { return e.err.Error() }
func (e *infraError) Unwrap() error { return e.err }

// attemptHooks are told what happens: begin before an attempt, made after it, failed if it surely did
// not deliver.
type attemptHooks struct {
	begin  func() error
	failed func() error
	made   func(error)
}

// attempt waits for a slot, for the end of a pause that the provider asked for and for the rate limit,
// then makes one attempt. The wait ends with ctx; an attempt that began goes on to its end.
func (l *lane) attempt(ctx context.Context, m delivery.Message, hooks attemptHooks) error {
	if l.breaker.State() == gobreaker.StateOpen {
		return errClosed // takes neither a slot nor a share of the rate
	}
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for wait := l.pause(); wait > 0; wait = l.pause() {
		if !sleep(ctx, wait) {
			return ctx.Err()
		}
	}
	if err := l.limiter.Wait(ctx); err != nil {
		return fmt.Errorf("waiting for the rate limit: %w", err)
	}
	var infra error
	_, err := l.breaker.Execute(func() (struct{}, error) {
		if infra = hooks.begin(); infra != nil {
			return struct{}{}, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), maxAttempt)
		defer cancel()
		err := l.send(ctx, m)
		hooks.made(err)
		if err != nil && delivery.AsFailure(err).Kind != delivery.Ambiguous {
			infra = hooks.failed()
		}
		return struct{}{}, err
	})
	if infra != nil {
		return &infraError{infra}
	}
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return errClosed
	}
	if err != nil {
		l.hold(delivery.AsFailure(err).After)
	}
	return err
}

// hold lets the lane rest for as long as the provider asks, up to delivery.LongestWish.
func (l *lane) hold(after time.Duration) {
	if after <= 0 {
		return
	}
	// Providers count in the wall's time, whatever clock the stack runs on.
	until := time.Now().Add(min(after, delivery.LongestWish))
	l.mu.Lock()
	defer l.mu.Unlock()
	if until.After(l.until) {
		l.until = until
	}
}

func (l *lane) pause() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Until(l.until)
}

// lanes holds the lane of every channel in its current version.
type lanes struct {
	outbox string
	mu     sync.Mutex // guards byID; held for map access and making a sender, never while sending
	byID   map[string]versioned
}

type versioned struct {
	version int64
	lane    *lane
}

func newLanes(outbox string) *lanes { return &lanes{outbox: outbox, byID: map[string]versioned{}} }

// of is the lane of a channel as it is defined now. A new version begins a new lane.
func (l *lanes) of(id string, def *definitionv1.Definition) (*lane, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if have, ok := l.byID[id]; ok && have.version == def.GetVersion() {
		return have.lane, nil
	}
	made, err := newLane(id, def.GetChannel(), l.outbox)
	if err != nil {
		return nil, err
	}
	l.byID[id] = versioned{version: def.GetVersion(), lane: made}
	return made, nil
}
