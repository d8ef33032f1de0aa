package app_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/server/httpserver"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/services/ingest/app"
)

// envChild names the brokers for a test binary that is to be the service.
const envChild = "SILLAGE_INGEST_TEST_CHILD"

// serveAsChild is the service as a process that can be killed. It prints its address.
func serveAsChild(brokers []string) {
	a, err := app.New(app.NewDefaultConfig(), app.Deps{
		Kafka: kafka.Config{Brokers: brokers, Partitions: 4}, Definitions: definitions(),
		Clock: clock.System{}, Logger: slog.New(slog.DiscardHandler), Telemetry: telemetry.Nop(),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	server := httpserver.New(httpserver.Config{Name: "ingest", Addr: "127.0.0.1:0"}, a.Handler(), slog.New(slog.DiscardHandler))
	if err := errors.Join(a.Start(context.Background()), server.Start(context.Background())); err != nil {
		fmt.Fprintln(os.Stderr, "starting:", err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stdout, server.Addr())
	<-server.Failed() // until killed
}

// child starts the service as a process of its own and returns it with its address.
func child(t *testing.T, brokers []string) (*exec.Cmd, string) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), envChild+"="+strings.Join(brokers, ","))
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	address, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return c, strings.TrimSpace(address)
}

// envFaults set to "full" runs the scenarios at the length that the figures ask for (`make faults`).
const envFaults = "SILLAGE_FAULTS"

// kill -9 under 64 connections: whatever was answered 200 is in Kafka. At full length: five kills, 200,000
// events.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	rounds, enough := 3, 1500
	if os.Getenv(envFaults) == "full" {
		rounds, enough = 5, 40_000
	}
	s := start(t, startBroker(t).ListenAddrs(), nil)
	var mu sync.Mutex
	acknowledged := map[string]bool{}
	for round := range rounds {
		service, address := child(t, s.brokers)

		done := make(chan struct{})
		var once sync.Once
		var clients sync.WaitGroup
		transport := &http.Transport{MaxIdleConnsPerHost: 64}
		for c := range 64 {
			clients.Go(func() {
				for i := 0; ; i++ {
					id := fmt.Sprintf("%d-%d-%d", round, c, i)
					req, _ := http.NewRequest(http.MethodPost, "http://"+address+"/v1/track", strings.NewReader(track(id)))
					req.SetBasicAuth(webKey, "")
					res, err := transport.RoundTrip(req)
					if err != nil {
						return // the process is gone
					}
					_ = res.Body.Close()
					if res.StatusCode != http.StatusOK {
						continue
					}
					mu.Lock()
					acknowledged[id] = true
					if len(acknowledged) >= (round+1)*enough {
						once.Do(func() { close(done) })
					}
					mu.Unlock()
				}
			})
		}
		<-done
		require.NoError(t, service.Process.Kill())
		clients.Wait()
		transport.CloseIdleConnections()
		require.Error(t, service.Wait(), "killed")
	}
	ids := s.messageIDs()
	for id := range acknowledged {
		if ids[id] != 1 {
			require.Equal(t, 1, ids[id], id)
		}
	}
	t.Logf("%d acknowledged, %d in Kafka", len(acknowledged), len(ids))
}
