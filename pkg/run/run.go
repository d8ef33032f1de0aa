// Package run starts and stops components in order. It is the whole of the lifecycle: no framework, no
// reflection; what depends on what is the order of the list.
package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Component is a part with a life of its own.
//
// Start returns when the component works or cannot; the context that it is given bounds starting only,
// and whatever the component starts lives until Stop. Stop finishes work in flight within its context,
// and is safe before Start, after a failed Start, and twice. Ready returns nil once the component can
// serve, else the reason why not. A component that fails later says so on the channel of Failed, which
// is never closed without an error in it.
type Component interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
	Ready(ctx context.Context) error
	Failed() <-chan error
}

// Named is a component with the name that logs and errors call it by.
type Named struct {
	Name      string
	Component Component
}

// Group starts its components in order and stops them in reverse. It is a Component itself.
type Group struct {
	components []Named
	logger     *slog.Logger
	failed     chan error // the first failure of each component, with its name

	mu       sync.Mutex // guards started and quit
	started  int
	quit     chan struct{} // closed by Stop; nil when stopped
	watchers sync.WaitGroup
}

// NewGroup returns a group of components, none started.
func NewGroup(logger *slog.Logger, components ...Named) *Group {
	return &Group{components: components, logger: logger, failed: make(chan error, len(components))}
}

// Start starts every component in order. If one fails, those already started are stopped again and the
// error names the one that failed. When ctx was cancelled meanwhile, that is the failure, whatever the
// component made of it: Unprompted tells it from others.
func (g *Group) Start(ctx context.Context) error {
	for i, c := range g.components {
		begun := time.Now()
		if err := c.Component.Start(ctx); err != nil {
			// The component that failed may hold something too: Stop is safe after a failed Start.
			g.note(i+1, nil)
			stopErr := g.Stop(context.WithoutCancel(ctx))
			if cancelled := ctx.Err(); errors.Is(cancelled, context.Canceled) {
				err = cancelled
			}
			return errors.Join(fmt.Errorf("starting %s: %w", c.Name, err), stopErr)
		}
		g.note(i+1, &c)
		g.logger.DebugContext(ctx, "component started", slog.String("name", c.Name), slog.Duration("took", time.Since(begun)))
	}
	return nil
}

// note counts a component as started and watches for its failure.
func (g *Group) note(started int, watch *Named) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.started = started
	if g.quit == nil {
		g.quit = make(chan struct{})
	}
	if watch == nil {
		return
	}
	c, quit := *watch, g.quit
	g.watchers.Go(func() {
		select {
		case err := <-c.Component.Failed():
			g.failed <- fmt.Errorf("%s: %w", c.Name, err)
		case <-quit:
		}
	})
}

// Stop stops the started components in reverse order, each within ctx, and returns all errors.
func (g *Group) Stop(ctx context.Context) error {
	var errs []error
	for i := g.takeStarted() - 1; i >= 0; i-- {
		c := g.components[i]
		if err := c.Component.Stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stopping %s: %w", c.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Ready is nil if every component is started and ready, else the reasons of all that are not. It may be
// called at any time, from any goroutine.
func (g *Group) Ready(ctx context.Context) error {
	g.mu.Lock()
	started := g.started
	g.mu.Unlock()
	var errs []error
	if started < len(g.components) {
		errs = append(errs, fmt.Errorf("%s: not started", g.components[started].Name))
	}
	for _, c := range g.components[:started] {
		if err := c.Component.Ready(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Failed tells of a component that failed after it had started, with its name.
func (g *Group) Failed() <-chan error { return g.failed }

// Wait returns nil when ctx is done, or the first failure of a component, with its name.
func (g *Group) Wait(ctx context.Context) error {
	select {
	case err := <-g.failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// Unprompted is what remains of err without what the cancellation of ctx brought about: nil for a
// process that was asked to stop while it was still starting, and did so in order.
func Unprompted(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		var rest []error
		for _, one := range several.Unwrap() {
			rest = append(rest, Unprompted(ctx, one))
		}
		return errors.Join(rest...)
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// takeStarted ends the watching and hands over what is to be stopped.
func (g *Group) takeStarted() int {
	g.mu.Lock()
	n, quit := g.started, g.quit
	g.started, g.quit = 0, nil
	g.mu.Unlock()
	if quit != nil {
		close(quit)
	}
	g.watchers.Wait()
	return n
}
