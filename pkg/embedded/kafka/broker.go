package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Defaults of [Config].
const (
	DefaultAddr         = "127.0.0.1:9092"
	DefaultPartitions   = 4
	DefaultSegmentBytes = 64 << 20
	DefaultRetention    = 7 * 24 * time.Hour
	DefaultMinFree      = 256 << 20
	DefaultMaintenance  = 5 * time.Minute
)

// Config says where the broker keeps its data and where clients find it.
type Config struct {
	// DataDir holds everything the broker keeps. Required. One broker at a
	// time has it open.
	DataDir string
	// Addr is host:port to listen on. Default: [DefaultAddr]. Port 0 takes a
	// free one.
	Addr string
	// Advertise is host:port that clients are told to connect to, where that
	// differs from Addr: in a container, or behind a forwarded port. Default:
	// the address listened on, with 127.0.0.1 for a wildcard.
	Advertise string
	// Logger is told of repairs, maintenance and faults. Required.
	Logger *slog.Logger

	// SyncWrites has every write reach the disk before it is acknowledged, at
	// about a third of the speed. Without it, acknowledged records survive the
	// death of the process but not that of the machine.
	SyncWrites bool

	// Partitions is how many a topic has that is created without a number.
	// Default: [DefaultPartitions].
	Partitions int
	// AutoCreateTopics creates topics that a client asks for and that do not
	// exist.
	AutoCreateTopics bool

	// SegmentBytes is the size at which a partition goes on in a new file, the
	// unit in which disk space is given back. Default: [DefaultSegmentBytes].
	// A topic's segment.bytes takes precedence.
	SegmentBytes int64
	// Retention is how long records are kept, counted from when they were
	// written, whatever their timestamp; negative for ever. Default:
	// [DefaultRetention]. A topic's retention.ms takes precedence.
	Retention time.Duration
	// RetentionBytes is how large a partition may be; 0 is without limit. A
	// topic's retention.bytes takes precedence.
	RetentionBytes int64
	// Maintenance is how often retention is applied and compaction considered.
	// Default: [DefaultMaintenance].
	Maintenance time.Duration

	// MinFree is the free disk space, in bytes, below which records are refused
	// with an error that clients retry. Default: [DefaultMinFree].
	MinFree uint64

	// bare runs the broker without the notes and the repair, to show what they
	// are for.
	bare bool
}

// withDefaults fills in what is not set and checks the rest.
func (c Config) withDefaults() (Config, error) {
	setDefault(&c.Addr, DefaultAddr)
	setDefault(&c.Partitions, DefaultPartitions)
	setDefault(&c.SegmentBytes, DefaultSegmentBytes)
	setDefault(&c.Retention, DefaultRetention)
	setDefault(&c.Maintenance, DefaultMaintenance)
	setDefault(&c.MinFree, DefaultMinFree)
	var errs []error
	if c.DataDir == "" {
		errs = append(errs, errors.New("DataDir: set the directory for the embedded Kafka's data"))
	}
	if c.Logger == nil {
		errs = append(errs, errors.New("Logger: required"))
	}
	if c.Advertise != "" {
		if _, _, err := net.SplitHostPort(c.Advertise); err != nil {
			errs = append(errs, fmt.Errorf("Advertise: %q is not host:port: %w", c.Advertise, err))
		}
	}
	if c.Partitions < 1 {
		errs = append(errs, fmt.Errorf("Partitions: %d is less than 1", c.Partitions))
	}
	if c.SegmentBytes < 1024 {
		errs = append(errs, fmt.Errorf("SegmentBytes: %d is less than 1024", c.SegmentBytes))
	}
	if c.RetentionBytes < 0 {
		errs = append(errs, fmt.Errorf("RetentionBytes: %d is negative", c.RetentionBytes))
	}
	if c.Maintenance < 0 {
		errs = append(errs, fmt.Errorf("Maintenance: %s is negative", c.Maintenance))
	}
	return c, errors.Join(errs...)
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Broker is an embedded Kafka broker on a data directory.
type Broker struct {
	cfg      Config
	dir      *dataDir
	port     *port
	repaired Repair
	failed   chan error

	mu      sync.Mutex // guards what follows
	state   state
	cluster *kfake.Cluster
	notes   *noteLog
	cancel  context.CancelFunc
	workers sync.WaitGroup
}

type state int

const (
	opened state = iota
	started
	stopped
)

// Open takes a data directory, binds the address and mends what a crash has
// left. The broker serves after [Broker.Start]; [Broker.Stop] gives directory
// and address back, also without a start.
func Open(cfg Config) (*Broker, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("configuring the embedded Kafka: %w", err)
	}
	dir, err := openDataDir(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	b := &Broker{cfg: cfg, dir: dir, failed: make(chan error, 1)}
	if b.port, err = listen(cfg.Addr, cfg.Advertise); err != nil {
		return nil, errors.Join(err, dir.unlock())
	}
	if err := b.mend(); err != nil {
		b.port.close(false)
		return nil, errors.Join(explain(cfg.DataDir, err), dir.unlock())
	}
	return b, nil
}

// mend repairs the directory if the broker that had it died.
func (b *Broker) mend() error {
	crashed, err := b.dir.crashed()
	if err != nil || b.cfg.bare {
		return err
	}
	if err := dropCopies(b.cfg.DataDir); err != nil {
		return err
	}
	if !crashed {
		return b.holdEnds()
	}
	begun := time.Now()
	r := repairer{dir: b.cfg.DataDir, sync: b.cfg.SyncWrites, now: begun}
	report, err := r.repair()
	if err != nil {
		return fmt.Errorf("repairing after a crash: %w", err)
	}
	report.Took = time.Since(begun)
	b.repaired = report
	b.cfg.Logger.Info("embedded Kafka did not end cleanly: its data directory was repaired",
		slog.Int("partitions", report.Partitions), slog.Int("commit_markers", report.Committed),
		slog.Int("abort_markers", report.Aborted), slog.Int("group_offsets", report.Offsets),
		slog.Int("fenced_producers", report.Fenced), slog.Int("cut_bytes", report.CutBytes),
		slog.Duration("took", report.Took))
	return nil
}

// holdEnds gives partitions that were emptied their end back, which the broker
// forgets even when it ends cleanly.
func (b *Broker) holdEnds() error {
	topics, err := readTopics(b.cfg.DataDir)
	if err != nil {
		return err
	}
	n, err := loadNotes(b.cfg.DataDir)
	if err != nil {
		return err
	}
	for k, floor := range n.floors {
		t := topics.byName[k.topic]
		if t == nil || t.id() != k.topicID || k.partition >= t.Partitions {
			continue
		}
		dir := partitionDir(b.cfg.DataDir, k.topic, k.partition)
		bases, err := segmentBases(dir)
		if err != nil {
			return err
		}
		if len(bases) > 0 {
			continue
		}
		if err := (&partitionLog{dir: dir}).placeHolder(floor, time.Now().UnixMilli()); err != nil {
			return err
		}
	}
	return nil
}

// Start serves clients and returns when the broker answers. A broker starts
// once.
func (b *Broker) Start(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state != opened {
		return errors.New("starting the embedded Kafka: it was started or stopped before; open it again")
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("starting the embedded Kafka: %w", err)
	}
	if err := b.dir.setRunning(true); err != nil {
		return err
	}
	if err := b.startCluster(); err != nil {
		return err
	}
	b.port.serve(b.fail)
	b.state = started
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	b.cancel = cancel
	b.workers.Go(func() { b.maintain(background) })
	return nil
}

// startCluster runs the broker on the directory; the caller holds the lock.
func (b *Broker) startCluster() error {
	clients := b.port.session()
	cluster, err := kfake.NewCluster(b.options(clients)...)
	if err != nil {
		return explain(b.cfg.DataDir, fmt.Errorf("starting the broker: %w", err))
	}
	b.cluster = cluster
	if b.cfg.bare {
		clients.open()
		return nil
	}
	n, err := loadNotes(b.cfg.DataDir)
	if err != nil {
		return err
	}
	if b.notes, err = openNotes(b.cfg.DataDir, n, b.cfg.SyncWrites); err != nil {
		return explain(b.cfg.DataDir, err)
	}
	h := &hooks{dir: b.cfg.DataDir, cluster: cluster, notes: b.notes, now: time.Now, failed: b.noteFailed}
	h.register()
	clients.open()
	return nil
}

func (b *Broker) options(clients net.Listener) []kfake.Opt {
	opts := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.ClusterID("sillage-embedded"),
		kfake.DataDir(b.cfg.DataDir),
		kfake.DefaultNumPartitions(b.cfg.Partitions),
		kfake.WithLogger(clusterLogger{b.cfg.Logger}),
		kfake.ListenFn(func(_, _ string) (net.Listener, error) { return clients, nil }),
		kfake.BrokerConfigs(brokerConfigs(b.cfg)),
	}
	if b.cfg.SyncWrites {
		opts = append(opts, kfake.SyncWrites())
	}
	if b.cfg.AutoCreateTopics {
		opts = append(opts, kfake.AllowAutoTopicCreation())
	}
	return opts
}

// brokerConfigs are the settings that clients see and those that keep the
// broker from its own retention and compaction; see maintain.go for why.
func brokerConfigs(cfg Config) map[string]string {
	configs := map[string]string{
		"log.segment.bytes":          strconv.FormatInt(cfg.SegmentBytes, 10),
		"log.retention.ms":           "-1",
		"log.cleaner.backoff.ms":     strconv.FormatInt((10 * 365 * 24 * time.Hour).Milliseconds(), 10),
		"default.replication.factor": "1",
		"offsets.retention.minutes":  strconv.Itoa(365 * 24 * 60),
	}
	if cfg.Retention > 0 {
		configs["log.retention.ms"] = strconv.FormatInt(cfg.Retention.Milliseconds(), 10)
	}
	if cfg.RetentionBytes > 0 {
		configs["log.retention.bytes"] = strconv.FormatInt(cfg.RetentionBytes, 10)
	}
	return maps.Clone(configs)
}

// Stop ends the broker: it writes down its state, transactions and groups
// included, and gives directory and address back. It waits for that whatever
// the context says: a state written in part is a crash to the next start.
// Stopping twice does nothing.
func (b *Broker) Stop(_ context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.state
	if was == stopped {
		return nil
	}
	b.state = stopped
	var errs []error
	if was == started {
		b.cancel()
		b.mu.Unlock() // maintenance takes the lock to reopen the broker
		b.workers.Wait()
		b.mu.Lock()
	}
	if b.cluster != nil {
		errs = append(errs, b.stopCluster())
	}
	b.port.close(was == started)
	if b.cluster != nil && errors.Join(errs...) == nil {
		errs = append(errs, b.dir.setRunning(false))
	}
	return errors.Join(append(errs, b.dir.unlock())...)
}

// stopCluster ends the broker and leaves its state on disk; the caller holds
// the lock.
func (b *Broker) stopCluster() error {
	refuseAll(b.cluster)
	b.cluster.Close()
	if b.notes != nil {
		if err := b.notes.close(); err != nil {
			return err
		}
	}
	return b.savedWhole()
}

// savedWhole tells whether the broker could write everything at its end: it
// only logs when it cannot.
func (b *Broker) savedWhole() error {
	left, err := filepath.Glob(filepath.Join(b.cfg.DataDir, "*.tmp"))
	if err != nil || len(left) == 0 {
		return err
	}
	return fmt.Errorf("the embedded Kafka could not write its state (%s is left over): see the log; the next start repairs the directory", filepath.Base(left[0]))
}

// Addr is the address that clients are told to connect to, host:port.
func (b *Broker) Addr() string { return b.port.advertised.String() }

// Addrs is [Broker.Addr] as the list of seed brokers that clients take.
func (b *Broker) Addrs() []string { return []string{b.Addr()} }

// Repaired says what [Open] had to mend; zero after a clean end.
func (b *Broker) Repaired() Repair { return b.repaired }

// Ready is nil while the broker serves.
func (b *Broker) Ready(_ context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.state {
	case opened:
		return errors.New("the embedded Kafka is not started")
	case stopped:
		return errors.New("the embedded Kafka is stopped")
	case started:
	}
	if free, err := b.dir.free(); err == nil && free < b.cfg.MinFree {
		return lowSpace(b.cfg.DataDir, free, b.cfg.MinFree)
	}
	return nil
}

// Failed carries the error that ended the broker, if one does.
func (b *Broker) Failed() <-chan error { return b.failed }

func (b *Broker) fail(err error) {
	select {
	case b.failed <- err:
	default:
	}
}

func (b *Broker) noteFailed(err error) {
	b.cfg.Logger.Error("embedded Kafka refuses a request because it cannot note it",
		slog.String("dir", b.cfg.DataDir), slog.Any("error", explain(b.cfg.DataDir, err)))
}

// clusterLogger hands the broker's own messages to the logger.
type clusterLogger struct{ logger *slog.Logger }

// Logf implements [kfake.Logger].
func (l clusterLogger) Logf(level kfake.LogLevel, format string, args ...any) {
	const said = "the embedded Kafka's broker says"
	switch level {
	case kfake.LogLevelError:
		l.logger.Error(said, slog.String("message", fmt.Sprintf(format, args...)))
	case kfake.LogLevelWarn:
		l.logger.Warn(said, slog.String("message", fmt.Sprintf(format, args...)))
	default: // how it works, request by request
	}
}
