package rig

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/sillage-cdp/sillage/pkg/kafkatest"
	"github.com/sillage-cdp/sillage/tests/e2e/stack"
)

// EnvFaults set to "full" makes scenarios as long as the figures ask for.
const EnvFaults = "SILLAGE_FAULTS"

// Full says whether scenarios run at full length.
func Full() bool { return os.Getenv(EnvFaults) == "full" }

// Broker is a Kafka to run a scenario on. It outlives the stages.
type Broker struct {
	// Kind is "kfake" or "apache".
	Kind  string
	Addrs []string
	// Cluster is kfake's control surface; nil on Apache Kafka.
	Cluster *kfake.Cluster
}

// The shortest time-outs that the brokers here allow: what waits for one takes seconds, not minutes.
const (
	sessionTimeout     = 2 * time.Second
	transactionTimeout = 2 * time.Second
	minSession         = "500" // milliseconds
)

// Each runs a scenario as subtests: on kfake, and on Apache Kafka too when SILLAGE_TEST_KAFKA is "apache";
// once, and at full length as often as given, each time with another seed. The seed of a subtest that failed
// runs it again: SILLAGE_TEST_SEED is that of the first repetition.
func Each(t *testing.T, repetitions int, scenario func(t *testing.T, broker Broker, seed uint64)) {
	t.Helper()
	seed := stack.Seed(t)
	repeat(t, "kfake", repetitions, seed, Kfake, scenario)
	switch kind := os.Getenv(kafkatest.EnvKafka); kind {
	case "", "kfake":
	case "apache":
		repeat(t, "apache", repetitions, seed, Apache, scenario)
	default:
		require.Failf(t, "unknown broker", "%s is %q: use \"apache\", or leave it empty for the in-memory broker alone", kafkatest.EnvKafka, kind)
	}
}

// EachKfake is Each for scenarios that need kfake's control surface.
func EachKfake(t *testing.T, repetitions int, scenario func(t *testing.T, broker Broker, seed uint64)) {
	t.Helper()
	repeat(t, "kfake", repetitions, stack.Seed(t), Kfake, scenario)
}

func repeat(t *testing.T, kind string, repetitions int, seed uint64, start func(t *testing.T) Broker, scenario func(t *testing.T, broker Broker, seed uint64)) {
	t.Helper()
	if !Full() {
		repetitions = 1
	}
	for i := range repetitions {
		name := kind
		if repetitions > 1 {
			name = fmt.Sprintf("%s/%d", kind, i+1)
		}
		t.Run(name, func(t *testing.T) {
			t.Logf("seed %d", seed+uint64(i))
			scenario(t, start(t), seed+uint64(i))
		})
	}
}

// Kfake starts an in-memory broker that ends with the test.
func Kfake(t *testing.T) Broker {
	t.Helper()
	cluster := kafkatest.StartCluster(t, kfake.BrokerConfigs(map[string]string{"group.min.session.timeout.ms": minSession}))
	return Broker{Kind: "kfake", Addrs: cluster.ListenAddrs(), Cluster: cluster}
}

// Apache starts an Apache Kafka that ends with the test, and that aborts transactions soon after their
// time-out.
func Apache(t *testing.T) Broker {
	t.Helper()
	node := kafkatest.StartApache(t, kafkatest.ApacheOptions{Config: map[string]string{
		"group.min.session.timeout.ms":                                minSession,
		"transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
	}})
	return Broker{Kind: "apache", Addrs: node.Brokers()}
}
