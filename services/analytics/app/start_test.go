package app_test

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/services/analytics/app"
)

// start starts the service on a ClickHouse and returns what it logged, and why it did not start.
func start(t *testing.T, addr string, timeout time.Duration) (logged string, reason error) {
	t.Helper()
	cfg := app.NewDefaultConfig()
	cfg.ClickHouse.Addr, cfg.ClickHouse.StartTimeout = addr, timeout
	var log strings.Builder
	a, err := app.New(cfg, app.Deps{Kafka: kafka.NewDefaultConfig(), Logger: slog.New(slog.NewTextHandler(&log, nil)), Telemetry: telemetry.Nop()})
	require.NoError(t, err)
	err = a.Start(t.Context())
	require.NoError(t, a.Stop(t.Context()))
	return log.String(), err
}

func TestStartGivesUpOnAClickHouseThatIsAway(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := listener.Addr().String()
	require.NoError(t, listener.Close())
	logged, reason := start(t, addr, 200*time.Millisecond)
	require.ErrorContains(t, reason, addr)
	require.ErrorContains(t, reason, "clickhouse.addr")
	require.Contains(t, logged, "does not answer", "whoever waits is told what for")
	require.Equal(t, 1, strings.Count(logged, "\n"), logged)
}

func TestStartDoesNotWaitForAServerThatRefuses(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-ClickHouse-Exception-Code", "516")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "Code: 516. DB::Exception: default: Authentication failed: password is incorrect. (AUTHENTICATION_FAILED)")
	}))
	defer server.Close()
	logged, reason := start(t, server.Listener.Addr().String(), time.Hour)
	require.ErrorContains(t, reason, "clickhouse.password_ref")
	require.Empty(t, logged)
}
