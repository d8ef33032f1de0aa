package clock_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/clock"
)

func TestScaledRunsFaster(t *testing.T) {
	wall := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	c := clock.NewScaled(clock.Anchor{Wall: wall, Clock: wall, Speed: 60})
	require.Equal(t, wall.Add(time.Hour), c.At(wall.Add(time.Minute)))
	require.Equal(t, 45*time.Second, c.Wall(45*time.Minute))
}

func TestScaledSleepsOfItsOwnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.NewScaled(clock.Anchor{Wall: time.Now(), Clock: time.Now(), Speed: 60})
		before := time.Now()
		require.NoError(t, c.Sleep(t.Context(), time.Hour))
		require.Equal(t, time.Minute, time.Since(before))
	})
}

func TestManualSleepEndsWhenMovedFarEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.NewManual(time.Now())
		done := make(chan error, 1)
		go func() { done <- c.Sleep(t.Context(), time.Minute) }()
		synctest.Wait()
		c.Advance(59 * time.Second)
		synctest.Wait()
		require.Empty(t, done)
		c.Advance(time.Second)
		require.NoError(t, <-done)
	})
}

func TestSleepEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, clock.System{}.Sleep(ctx, time.Hour), context.Canceled)
	require.ErrorIs(t, clock.NewManual(time.Now()).Sleep(ctx, time.Hour), context.Canceled)
}
