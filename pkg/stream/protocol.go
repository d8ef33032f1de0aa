package stream

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sillage-cdp/sillage/pkg/kafka"
)

// transactionsV2 is the level of the feature transaction.version from which each transaction has an epoch
// of its own, so that a request which comes late is refused.
const transactionsV2 = 2

// transactionVersion is the version of the transaction protocol that the brokers have agreed on.
func transactionVersion(ctx context.Context, client *kgo.Client) (int16, error) {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "sillage", "1"
	resp, err := req.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return 0, fmt.Errorf("asking the brokers for their features: %w", err)
	}
	for _, feature := range resp.FinalizedFeatures {
		if feature.Name == "transaction.version" {
			return feature.MaxVersionLevel, nil
		}
	}
	return 0, nil
}

// protocolOptions are what a member's client does differently below transaction.version=2. There the end of
// a transaction that a broker handles late, after the client has sent it again, ends the next one in its
// middle (KAFKA-17754). So it is sent once: when its answer does not come, the session is rebuilt, and from
// then on the broker refuses what comes late. Connections that break then cost a rebuild, not a retry.
func protocolOptions(ctx context.Context, version int16, logger *slog.Logger) []kgo.Opt {
	if version >= transactionsV2 {
		return nil
	}
	logger.WarnContext(ctx, "the brokers' transactions are not safe from requests that come late: use Kafka 4.0 or newer with transaction.version=2",
		slog.Int("transaction_version", int(version)))
	end := kmsg.EndTxn.Int16()
	return []kgo.Opt{kgo.RetryTimeoutFn(func(key int16) time.Duration {
		if key == end {
			return time.Nanosecond
		}
		return kafka.RetryTimeout
	})}
}
