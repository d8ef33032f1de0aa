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
)

// lane is the way of one tenant's channel: its own limits and its own trouble, so that a slow provider
// slows nobody else.
type lane struct {
	slots   chan struct{}
	limiter *rate.Limiter
	breaker *gobreaker.CircuitBreaker[struct{}]
	send    func(context.Context, delivery.Message) error
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
		limiter: rate.NewLimiter(limit, laneParallel),
		breaker: gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
			Name:        name,
			Timeout:     breakFor,
			MaxRequests: 1,
			ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= breakAfter },
			// A refused address says nothing of the provider.
			IsSuccessful: func(err error) bool { return err == nil || delivery.AsFailure(err).Kind == delivery.Permanent },
		}),
		send: send,
	}, nil
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
			//nolint:forbidigo // receivers compare with the wall, whatever clock the stack runs on
			return s.Send(ctx, m, time.Now())
		}, nil
	default:
		return nil, errors.New("the channel is neither email nor webhook")
	}
}

// errClosed says that the breaker is open: no attempt was made.
var errClosed = errors.New("the provider is given a pause after repeated failures")

// attempt waits for a slot and the rate limit, then makes one attempt. begin is called right before it.
// The wait ends with ctx; an attempt that began goes on to its end.
func (l *lane) attempt(ctx context.Context, m delivery.Message, begin func() error) error {
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := l.limiter.Wait(ctx); err != nil {
		return fmt.Errorf("waiting for the rate limit: %w", err)
	}
	_, err := l.breaker.Execute(func() (struct{}, error) {
		if err := begin(); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, l.send(context.WithoutCancel(ctx), m)
	})
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return errClosed
	}
	return err
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

func (l *lanes) of(def *definitionv1.Definition) (*lane, error) {
	id := def.GetTenant() + "/" + def.GetName()
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
