package app_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/kafka"
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
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil || a.Start(context.Background()) != nil {
		fmt.Fprintln(os.Stderr, "starting:", err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stdout, listener.Addr())
	server := &http.Server{Handler: a.Handler(), ReadHeaderTimeout: time.Second}
	_ = server.Serve(listener) // until killed
}

// kill -9 under 64 connections: whatever was answered 200 is in Kafka.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	var mu sync.Mutex
	acknowledged := map[string]bool{}
	for round := range 3 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), envChild+"="+strings.Join(s.brokers, ","))
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		address, err := bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)

		const enough = 1500
		done := make(chan struct{})
		var once sync.Once
		var clients sync.WaitGroup
		transport := &http.Transport{MaxIdleConnsPerHost: 64}
		for c := range 64 {
			clients.Go(func() {
				for i := 0; ; i++ {
					id := fmt.Sprintf("%d-%d-%d", round, c, i)
					req, _ := http.NewRequest(http.MethodPost, "http://"+strings.TrimSpace(address)+"/v1/track", strings.NewReader(track(id)))
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
		require.NoError(t, child.Process.Kill())
		clients.Wait()
		transport.CloseIdleConnections()
		require.Error(t, child.Wait(), "killed")
	}
	ids := s.messageIDs()
	for id := range acknowledged {
		require.Equal(t, 1, ids[id], id)
	}
	t.Logf("%d acknowledged, %d in Kafka", len(acknowledged), len(ids))
}
