package delivery_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/services/channel-connector/internal/delivery"
)

func TestWaitDoublesUpToItsBound(t *testing.T) {
	f := &delivery.Failure{Kind: delivery.Temporary}
	require.Equal(t, time.Second, delivery.Wait(f, 2, 0))
	require.Equal(t, 2*time.Second, delivery.Wait(f, 3, 0))
	require.Equal(t, 5*time.Minute, delivery.Wait(f, 60, 0))
	require.Equal(t, time.Second, delivery.Wait(f, 3, 1))
}

func TestAProvidersWishCountsIfLongerAndIsBounded(t *testing.T) {
	require.Equal(t, 30*time.Second, delivery.Wait(&delivery.Failure{After: 30 * time.Second}, 2, 0))
	require.Equal(t, 40*time.Minute, delivery.Wait(&delivery.Failure{After: 40 * time.Minute}, 2, 0))
	require.Equal(t, delivery.LongestWish, delivery.Wait(&delivery.Failure{After: 24 * time.Hour}, 2, 0))
}

func TestAnUnclassifiedErrorIsTemporary(t *testing.T) {
	require.Equal(t, delivery.Temporary, delivery.AsFailure(errors.New("odd")).Kind)
	wrapped := fmt.Errorf("sending: %w", &delivery.Failure{Kind: delivery.Permanent, Reason: "smtp_550"})
	require.Equal(t, "smtp_550", delivery.AsFailure(wrapped).Reason)
}
