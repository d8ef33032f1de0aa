package stream

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
)

// Config sets how a Runner works. Zero values mean the default.
type Config struct {
	// Kafka says where Kafka is. It and DataDir are the whole process's, and so no settings of a stage.
	Kafka kafka.Config `koanf:"-"`
	// DataDir is where local state lies: DataDir/<topology>/<partition>. One live instance at a time uses it.
	DataDir string `koanf:"-"`
	// InstanceID names this instance in the consumer group and the transactional id, so that a restart takes
	// over from the process that died at once instead of after a time-out. Two live instances must not share
	// one. Default: made once and kept in DataDir.
	InstanceID string `koanf:"instance_id"`
	// CommitInterval is how long a transaction may collect records under load. Default 50ms: an end-to-end
	// second has room for ten stages, and at 20 commits a second their cost is a few per cent.
	CommitInterval time.Duration `koanf:"commit_interval"`
	// MaxBatchRecords bounds the records of a transaction. Default 20000: about 100ms of work.
	MaxBatchRecords int `koanf:"max_batch_records"`
	// MaxBatchBytes bounds keys and values read in a transaction, and with it the overlay. Default 16 MiB.
	MaxBatchBytes int `koanf:"max_batch_bytes"`
	// MaxTimers bounds the timers that a task fires before it looks at records again. Default 1000. Slow
	// timers are bounded in time, too: after 100ms the sweep is over with the timer in hand.
	MaxTimers int `koanf:"max_timers"`
	// MaxHeld bounds the records of one key that wait for announced state; beyond it the wait is over and
	// they are handled without. Default 1000.
	MaxHeld int `koanf:"max_held"`
	// TransactionTimeout is when Kafka aborts the transaction of an instance that is gone. Default 10s: as
	// long as that, its last outputs and their partitions stand still.
	TransactionTimeout time.Duration `koanf:"transaction_timeout"`
	// SessionTimeout is when Kafka gives the partitions of an instance that is gone to others. Default 10s.
	SessionTimeout time.Duration `koanf:"session_timeout"`
	// StuckAfter is how long work may be tried without a commit until Ready says so. Default 30s: three times
	// what a transaction or a session may take to time out.
	StuckAfter time.Duration `koanf:"stuck_after"`
	// Standbys is how many other instances keep a copy of the state of each partition, so that one of them
	// takes over from an instance that died without reading the whole changelog: what is left to read is
	// what was written in the last seconds. It costs disk, and reading every changelog that often. An
	// instance with 0 keeps no copies, whatever the others want. Default 0, at most 8.
	Standbys int `koanf:"standbys"`
	// StoreRetention is how long the local state of a partition stays on disk after this instance has
	// stopped to use it, in case the partition comes back. Default 12h: older than that it would be rebuilt
	// from the changelog anyway.
	StoreRetention time.Duration `koanf:"store_retention"`
	// CacheBytes is the block cache that all partitions share. Default 32 MiB.
	CacheBytes int64 `koanf:"cache_bytes"`
	// AtLeastOnce drops the transaction: outputs and state may repeat after a crash. It is here to measure
	// what exactly-once costs.
	AtLeastOnce bool `koanf:"at_least_once"`
}

// Deps are what a Runner is given.
type Deps struct {
	Clock     clock.Clock
	Logger    *slog.Logger
	Telemetry telemetry.Providers
	// KafkaOptions are added to the options of every Kafka client, for instance a dialer.
	KafkaOptions []kgo.Opt
	// OnRestore, if set, is told how far the restore of a partition has come. It must not block.
	OnRestore func(RestoreProgress)
}

// RestoreProgress says how far a partition's state has been read from its changelog.
type RestoreProgress struct {
	Topology  string
	Partition int32
	// Position and End are changelog offsets; the restore is complete when they are equal.
	Position, End int64
	// Records are the changelog records that this attempt has read.
	Records int64
	Done    bool
}

func (c Config) withDefaults() Config {
	setDefault(&c.CommitInterval, 50*time.Millisecond)
	setDefault(&c.MaxBatchRecords, 20_000)
	setDefault(&c.MaxBatchBytes, 16<<20)
	setDefault(&c.MaxTimers, 1000)
	setDefault(&c.MaxHeld, 1000)
	setDefault(&c.TransactionTimeout, 10*time.Second)
	setDefault(&c.SessionTimeout, 10*time.Second)
	setDefault(&c.StuckAfter, 30*time.Second)
	setDefault(&c.CacheBytes, 32<<20)
	setDefault(&c.StoreRetention, maxStoreAge)
	return c
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Validate says everything that is wrong with c.
func (c Config) Validate() error {
	errs := []error{c.Kafka.Validate()}
	if c.DataDir == "" {
		errs = append(errs, errors.New("data_dir: a directory for local state is needed"))
	}
	c = c.withDefaults()
	for name, d := range map[string]time.Duration{
		"commit_interval": c.CommitInterval, "transaction_timeout": c.TransactionTimeout, "session_timeout": c.SessionTimeout,
		"stuck_after": c.StuckAfter,
	} {
		if d < time.Millisecond {
			errs = append(errs, fmt.Errorf("%s: %s is under a millisecond", name, d))
		}
	}
	if c.CommitInterval*4 > c.TransactionTimeout {
		errs = append(errs, fmt.Errorf("commit_interval: %s leaves no room in a transaction_timeout of %s", c.CommitInterval, c.TransactionTimeout))
	}
	for name, n := range map[string]int{
		"max_batch_records": c.MaxBatchRecords, "max_batch_bytes": c.MaxBatchBytes, "max_timers": c.MaxTimers, "max_held": c.MaxHeld,
	} {
		if n < 1 {
			errs = append(errs, fmt.Errorf("%s: %d is less than 1", name, n))
		}
	}
	if c.Standbys < 0 || c.Standbys > maxStandbys {
		errs = append(errs, fmt.Errorf("standbys: %d is not between 0 and %d", c.Standbys, maxStandbys))
	}
	if c.StoreRetention < 0 {
		errs = append(errs, fmt.Errorf("store_retention: %s is negative", c.StoreRetention))
	}
	return errors.Join(errs...)
}

func (d Deps) validate() error {
	var errs []error
	if d.Clock == nil {
		errs = append(errs, errors.New("deps.clock is missing"))
	}
	if d.Logger == nil {
		errs = append(errs, errors.New("deps.logger is missing"))
	}
	if d.Telemetry.Meter == nil || d.Telemetry.Tracer == nil {
		errs = append(errs, errors.New("deps.telemetry is missing: use telemetry.Nop() for none"))
	}
	return errors.Join(errs...)
}
