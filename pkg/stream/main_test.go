package stream

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
)

// Environment of the child process that the crash test kills.
const (
	envChildBrokers = "SILLAGE_STREAM_TEST_CHILD_BROKERS"
	envChildDir     = "SILLAGE_STREAM_TEST_CHILD_DIR"
)

func TestMain(m *testing.M) {
	if brokers := os.Getenv(envChildBrokers); brokers != "" {
		runChild(strings.Split(brokers, ","), os.Getenv(envChildDir))
		return
	}
	// The shared Apache Kafka lives as long as the test process.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/sillage-cdp/sillage/pkg/kafkatest.(*Apache).reap"))
}

// runChild is a whole instance until it is killed, or until its parent is gone.
func runChild(brokers []string, dir string) {
	deps := Deps{Clock: clock.System{}, Logger: slog.New(slog.DiscardHandler), Telemetry: telemetry.Nop()}
	r, err := NewRunner(chainTopology(), quickConfig(brokers, dir), deps)
	if err == nil {
		err = r.Start(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	parent := os.Getppid()
	looks := time.Tick(100 * time.Millisecond)
	for {
		select {
		case err := <-r.Failed():
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		case <-looks:
			if os.Getppid() != parent {
				return
			}
		}
	}
}
