package run_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/run"
)

// part notes what is done to it.
type part struct {
	name     string
	log      *[]string
	startErr error
	failed   chan error
}

func (p *part) Start(context.Context) error {
	*p.log = append(*p.log, "start "+p.name)
	return p.startErr
}

func (p *part) Stop(context.Context) error {
	*p.log = append(*p.log, "stop "+p.name)
	return nil
}

func (*part) Ready(context.Context) error { return nil }
func (p *part) Failed() <-chan error      { return p.failed }

func group(log *[]string, parts ...*part) *run.Group {
	var named []run.Named
	for _, p := range parts {
		p.log = log
		named = append(named, run.Named{Name: p.name, Component: p})
	}
	return run.NewGroup(slog.New(slog.DiscardHandler), named...)
}

func TestStartsInOrderAndStopsInReverse(t *testing.T) {
	var log []string
	g := group(&log, &part{name: "a"}, &part{name: "b"})
	require.ErrorContains(t, g.Ready(t.Context()), "a: not started")
	require.NoError(t, g.Start(t.Context()))
	require.NoError(t, g.Ready(t.Context()))
	require.NoError(t, g.Stop(t.Context()))
	require.NoError(t, g.Stop(t.Context()), "a second stop does nothing")
	require.Equal(t, []string{"start a", "start b", "stop b", "stop a"}, log)
}

func TestFailedStartStopsWhatStarted(t *testing.T) {
	var log []string
	g := group(&log, &part{name: "a"}, &part{name: "b", startErr: errors.New("no luck")}, &part{name: "c"})
	require.EqualError(t, g.Start(t.Context()), "starting b: no luck")
	require.Equal(t, []string{"start a", "start b", "stop b", "stop a"}, log)
}

func TestWaitNamesTheComponentThatFailed(t *testing.T) {
	var log []string
	b := &part{name: "b", failed: make(chan error, 1)}
	g := group(&log, &part{name: "a"}, b)
	require.NoError(t, g.Start(t.Context()))
	b.failed <- errors.New("lost its disk")
	require.EqualError(t, g.Wait(t.Context()), "b: lost its disk")
}

func TestWaitEndsWithItsContext(t *testing.T) {
	var log []string
	g := group(&log, &part{name: "a"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, g.Wait(ctx))
}

func TestCancelledStartIsNoFailure(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var log []string
	g := group(&log, &part{name: "a"}, &part{name: "b", startErr: errors.New("the connection is closed")})
	cancel()
	err := g.Start(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "starting b")
	require.NoError(t, run.Unprompted(ctx, err))
	require.Equal(t, []string{"start a", "start b", "stop b", "stop a"}, log)
}

func TestUnpromptedKeepsOtherFailures(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	flush := errors.New("the disk is full")
	err := errors.Join(fmt.Errorf("starting b: %w", context.Canceled), fmt.Errorf("stopping a: %w", flush))
	require.Equal(t, err, run.Unprompted(ctx, err), "nobody has cancelled anything")
	cancel()
	require.EqualError(t, run.Unprompted(ctx, err), "stopping a: the disk is full")
	require.NoError(t, run.Unprompted(ctx, nil))
}
