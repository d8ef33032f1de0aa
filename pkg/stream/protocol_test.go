package stream

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/sillage-cdp/sillage/pkg/kafkatest"
)

// TestAnEndIsSentOnceWhereItMayComeLate tears the connection under the first end of a transaction. Brokers
// that give each transaction an epoch are asked again; of others the next session is asked for, so that they
// refuse the first one should they still come upon it.
func TestAnEndIsSentOnceWhereItMayComeLate(t *testing.T) {
	for name, test := range map[string]struct {
		versions *kversion.Versions
		next     kmsg.Key
	}{
		"transaction.version=2": {kversion.V4_0_0(), kmsg.EndTxn},
		"transaction.version=0": {kversion.V3_9_0(), kmsg.InitProducerID},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := kafkatest.StartCluster(t, kfake.SeedTopics(testPartitions, "in", "out"), kfake.GroupMinSessionTimeout(100*time.Millisecond),
				kfake.MaxVersions(test.versions))
			var mu sync.Mutex
			var seen []kmsg.Key // from the torn end on
			watch := func(key kmsg.Key) {
				cluster.ControlKey(key.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
					cluster.KeepControl()
					mu.Lock()
					defer mu.Unlock()
					if len(seen) == 0 && key != kmsg.EndTxn {
						return nil, nil, false
					}
					seen = append(seen, key)
					if len(seen) == 1 {
						return nil, errors.New("the connection is torn"), true
					}
					return nil, nil, false
				})
			}
			watch(kmsg.EndTxn)
			watch(kmsg.InitProducerID)
			startRunner(t, benchTopology(), Config{Kafka: kafkaConfig(cluster.ListenAddrs()), DataDir: t.TempDir()}, testDeps(t))
			w := newWriter(t, cluster.ListenAddrs())
			w.send("in", "key", "value")
			w.flush()
			require.Eventually(t, func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(seen) > 1
			}, time.Minute, time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			require.Equal(t, test.next, seen[1])
		})
	}
}
