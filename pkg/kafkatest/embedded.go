package kafkatest

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
)

// EnvKafka is the environment variable that adds brokers to [Each]: set it to
// "apache" to run tests on Apache Kafka as well.
const EnvKafka = "SILLAGE_TEST_KAFKA"

// StartEmbedded starts a kfake broker in memory and returns its addresses. The
// broker stops when the test ends. Options are added after the defaults: one
// broker, topics created on demand for clients that ask for it.
func StartEmbedded(t testing.TB, opts ...kfake.Opt) []string {
	t.Helper()
	return StartCluster(t, opts...).ListenAddrs()
}

// StartCluster is [StartEmbedded] for tests that need the broker itself, to
// intercept requests ([kfake.Cluster.ControlKey]) or to inject errors
// ([kfake.Cluster.Fault]).
func StartCluster(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	all := append([]kfake.Opt{kfake.NumBrokers(1), kfake.AllowAutoTopicCreation()}, opts...)
	cluster, err := kfake.NewCluster(all...)
	require.NoError(t, err, "starting the in-memory broker")
	t.Cleanup(cluster.Close)
	return cluster
}

// Each runs fn as a subtest on an in-memory broker of its own, and when
// [EnvKafka] is "apache" also on the shared Apache Kafka, whose topics and
// groups outlive the subtest: use names of your own.
func Each(t *testing.T, fn func(t *testing.T, brokers []string)) {
	t.Helper()
	t.Run("kfake", func(t *testing.T) {
		fn(t, StartEmbedded(t))
	})
	switch kind := os.Getenv(EnvKafka); kind {
	case "", "kfake":
	case "apache":
		t.Run("apache", func(t *testing.T) {
			fn(t, SharedApache(t).Brokers())
		})
	default:
		t.Fatalf("%s is %q: use \"apache\", or leave it empty for the in-memory broker alone", EnvKafka, kind)
	}
}
