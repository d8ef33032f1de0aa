package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/gofrs/flock"
	"github.com/segmentio/ksuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/run"
)

// Runner runs a topology on Kafka as one member of its consumer group: as many instances as there are
// partitions share the work. It is a run.Component.
type Runner struct {
	top     Topology
	cfg     Config
	deps    Deps
	logger  *slog.Logger
	metrics *metrics
	health  *health
	outputs *outputLimits
	ready   *readiness
	failed  chan error
	fs      vfs.FS // where local state lies
	held    *holdings
	lags    *standbyLags
	state   *stateMetrics

	mu    sync.Mutex // guards what follows: the handles between Start and Stop
	lock  *flock.Flock
	admin *kgo.Client
	// protocol are options of members that follow from the brokers' transaction protocol.
	protocol []kgo.Opt
	caches   *storeCaches
	cancel   context.CancelFunc
	stopped  chan struct{}
}

var _ run.Component = (*Runner)(nil)

// NewRunner returns a runner of a topology. It does nothing until it is started.
func NewRunner(top Topology, cfg Config, deps Deps) (*Runner, error) {
	if err := errors.Join(top.Validate(), cfg.Validate(), deps.validate()); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	logger := deps.Logger.With(slog.String("component", "stream"), slog.String("topology", top.Name))
	h := newHealth(logger, cfg.StuckAfter)
	m, err := newMetrics(deps.Telemetry.Meter, top.Name, h)
	if err != nil {
		return nil, fmt.Errorf("making the metrics of topology %s: %w", top.Name, err)
	}
	ready, lags := newReadiness(), &standbyLags{lags: make(map[int32]int64)}
	state, err := newStateMetrics(deps.Telemetry.Meter, top.Name, lags, ready)
	if err != nil {
		return nil, fmt.Errorf("making the metrics of topology %s: %w", top.Name, err)
	}
	return &Runner{
		top: top, cfg: cfg, deps: deps, metrics: m, health: h, outputs: newOutputLimits(), ready: ready, failed: make(chan error, 1), logger: logger,
		fs: vfs.Default, held: newHoldings(), lags: lags, state: state,
	}, nil
}

// Start makes the internal topics, checks that the others are there and co-partitioned, and starts to
// work in the background. State may still be restored when it returns; see Ready.
func (r *Runner) Start(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped != nil {
		return errors.New("the runner has been started already")
	}
	if err := r.lockData(); err != nil {
		return err
	}
	admin, err := kgo.NewClient(append(r.cfg.Kafka.Options(r.deps.Logger), r.deps.KafkaOptions...)...)
	if err != nil {
		return fmt.Errorf("configuring the Kafka client: %w", err)
	}
	r.admin = admin
	if err := ensureInternalTopics(ctx, admin, &r.top, r.cfg.Kafka.Replication); err != nil {
		return fmt.Errorf("topology %s: %w", r.top.Name, err)
	}
	version, err := transactionVersion(ctx, admin)
	if err != nil {
		return fmt.Errorf("topology %s: %w", r.top.Name, err)
	}
	r.protocol = protocolOptions(ctx, version, r.logger)
	r.caches = newStoreCaches(r.cfg.CacheBytes)
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel, r.stopped = cancel, make(chan struct{})
	stopped := r.stopped
	go func() {
		defer close(stopped)
		var watcher sync.WaitGroup
		defer watcher.Wait()
		watcher.Go(func() { r.watch(background) })
		r.run(background)
	}()
	return nil
}

// lockData takes the data directory for this instance, and its id from there if none is configured.
func (r *Runner) lockData() error {
	dir := filepath.Join(r.cfg.DataDir, r.top.Name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the data directory: %w", err)
	}
	lock := flock.New(filepath.Join(dir, "lock"))
	ok, err := lock.TryLock()
	if err != nil {
		return fmt.Errorf("locking the data directory %s: %w", dir, err)
	}
	if !ok {
		return fmt.Errorf("the data directory %s is in use by another instance: give each its own data_dir", dir)
	}
	r.lock = lock
	if r.cfg.InstanceID != "" {
		return nil
	}
	r.cfg.InstanceID, err = r.instanceID(filepath.Join(dir, "instance"))
	return err
}

// instanceID reads the id of this instance, or makes one and keeps it. On a disk that takes no more it is
// not kept: the next start has another, and waits for the session of this one to end.
func (r *Runner) instanceID(path string) (string, error) {
	kept, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("reading the instance id: %w", err)
	}
	if id := strings.TrimSpace(string(kept)); id != "" {
		return id, nil
	}
	id := ksuid.New().String()
	// Renamed into place, so that there is never half an id.
	if err := errors.Join(os.WriteFile(path+".new", []byte(id), 0o600), os.Rename(path+".new", path)); err != nil {
		r.logger.Warn("the instance id could not be kept: a restart waits for this session to end", slog.String("error", err.Error()))
	}
	return id, nil
}

// Stop finishes the transaction in hand, leaves the group and closes the stores. Without time for that
// (ctx) it returns, and the group finds out by the session time-out.
func (r *Runner) Stop(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	if r.cancel != nil {
		r.cancel()
		select {
		case <-r.stopped:
		case <-ctx.Done():
			return fmt.Errorf("stopping topology %s: %w", r.top.Name, ctx.Err())
		}
		r.cancel = nil
		errs = append(errs, r.leave(ctx))
	}
	if r.admin != nil {
		r.admin.Close()
		r.admin = nil
	}
	if r.caches != nil {
		r.caches.close()
		r.caches = nil
	}
	if r.lock != nil {
		errs = append(errs, r.lock.Unlock(), r.metrics.close(), r.state.close())
		r.lock = nil
	}
	return errors.Join(errs...)
}

// Ready is nil once the group has been joined and all owned partitions have their state, and as long as
// the work in hand commits within Config.StuckAfter.
func (r *Runner) Ready(context.Context) error { return errors.Join(r.ready.err(), r.health.err()) }

// Failed tells of a failure that trying again cannot mend, such as missing rights.
func (r *Runner) Failed() <-chan error { return r.failed }

// run makes one session after the other until it is told to stop. A session that fails is followed by
// another after a wait that grows while failures come quickly.
func (r *Runner) run(ctx context.Context) {
	wait := minBackoff
	for ctx.Err() == nil {
		begun := time.Now()
		err := r.session(ctx)
		if err == nil || ctx.Err() != nil {
			continue
		}
		r.metrics.rebuilt(ctx, err)
		if permanent(err) {
			r.failed <- fmt.Errorf("topology %s: %w", r.top.Name, err)
			return
		}
		if time.Since(begun) > 10*time.Second {
			wait = minBackoff
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, 5*time.Second)
	}
}

const minBackoff = 100 * time.Millisecond

// session is one membership from beginning to end.
func (r *Runner) session(ctx context.Context) error {
	admin := kadm.NewClient(r.admin)
	if _, err := inputPartitions(ctx, admin, &r.top); err != nil {
		return err
	}
	if err := r.outputs.describe(ctx, admin, r.top.Outputs); err != nil {
		r.logger.WarnContext(ctx, "the limits of the outputs cannot be asked for (they are learned from refusals then)", slog.String("error", err.Error()))
	}
	m := &member{
		top: &r.top, cfg: r.cfg, clock: r.deps.Clock, logger: r.logger, metrics: r.metrics, ready: r.ready, health: r.health, outputs: r.outputs,
		dir: r.cfg.DataDir, tasks: make(map[int32]*ownedTask), wakeups: make(chan struct{}, 1),
	}
	m.tracing = tracer{tracer: r.deps.Telemetry.Tracer.Tracer("github.com/sillage-cdp/sillage/pkg/stream")}
	m.own = newOwnership(m.wake)
	settings := r.caches.settings(r.logger)
	settings.fs, settings.notify, settings.lost = r.fs, m.wake, r.state.failed
	m.restore = &restorer{
		top: &r.top, client: r.admin, dir: m.storeDir(), logger: r.logger, backoff: minBackoff,
		settings: settings, progress: r.progress, failed: r.ready.failure, loads: make(chan struct{}, bulkLoads),
	}
	m.held = r.held
	m.standbys = newStandbySet(m.restore, r.held, r.lags, m.wake)
	m.janitor = &janitor{
		fs: r.fs, dir: m.storeDir(), keep: r.cfg.StoreRetention, now: settings.now, logger: r.logger,
		removed: func(p int32) {
			r.held.gone(p)
			r.state.removed.Add(ctx, 1, r.metrics.attrs)
		},
	}
	balancer := &taskBalancer{
		own: m.own, standbys: m.standbys.want,
		data: func() memberData { return r.held.report(storedPartitions(m.storeDir()), r.cfg.Standbys) },
	}
	opts := memberOptions(&r.top, r.cfg, r.cfg.Kafka.ProducerOptions(r.deps.Logger), balancer, r.outputs)
	opts = append(opts, kgo.OnPartitionsAssigned(m.onAssigned), kgo.OnPartitionsRevoked(m.onGone), kgo.OnPartitionsLost(m.onGone))
	opts = append(append(opts, r.protocol...), r.deps.KafkaOptions...)
	var err error
	if r.cfg.AtLeastOnce {
		m.session, err = newAtLeastOnce(opts)
	} else {
		m.session, err = newExactlyOnce(&r.top, r.cfg, opts)
	}
	if err != nil {
		return err
	}
	err = m.run(ctx)
	m.session.close()
	return err
}

func (r *Runner) progress(p RestoreProgress) {
	r.metrics.progress(p)
	r.ready.progress(p)
	if r.deps.OnRestore != nil {
		r.deps.OnRestore(p)
	}
}

// storeCaches are shared by the stores of a runner.
type storeCaches struct {
	cache *pebble.Cache
	files *pebble.FileCache
}

func newStoreCaches(bytes int64) *storeCaches {
	c := &storeCaches{cache: pebble.NewCache(bytes)}
	c.files = pebble.NewFileCache(1, 512)
	return c
}

func (c *storeCaches) settings(logger *slog.Logger) storeSettings {
	return storeSettings{cache: c.cache, files: c.files, fs: vfs.Default, logger: logger, now: time.Now}
}

func (c *storeCaches) close() {
	c.files.Unref()
	c.cache.Unref()
}
