package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// restorer brings the store of a partition up to what its changelog holds.
type restorer struct {
	top      *Topology
	client   *kgo.Client // not a member of the group
	settings storeSettings
	dir      string
	progress func(RestoreProgress)
	// failed is told why an attempt to restore a partition failed, and nil when one succeeded.
	failed  func(partition int32, err error)
	logger  *slog.Logger
	backoff time.Duration
	loads   chan struct{} // see bulk
}

// restored is a partition that is ready for work: its store and where its inputs go on.
type restored struct {
	store   *pebbleStore
	offsets map[string]kgo.EpochOffset
	ends    map[string]int64 // of the inputs, as they were then
}

// restore retries until it succeeds or ctx is done. A store that is given is brought up to date; without
// one it is opened, or begun if it is not usable. The store is the caller's even if an error is returned.
func (r *restorer) restore(ctx context.Context, partition int32, store *pebbleStore) (restored, error) {
	warned := time.Time{}
	for attempt := 0; ; attempt++ {
		var err error
		var offsets map[string]kgo.EpochOffset
		var ends map[string]int64
		store, offsets, err = r.attempt(ctx, partition, store)
		if err == nil {
			ends, err = r.inputEnds(ctx, partition)
		}
		if ctx.Err() != nil {
			return restored{store: store}, ctx.Err()
		}
		r.failed(partition, err)
		if err == nil {
			return restored{store: store, offsets: offsets, ends: ends}, nil
		}
		if now := time.Now(); now.Sub(warned) > time.Minute {
			warned = now
			r.logger.WarnContext(ctx, "restoring a partition failed; trying again",
				slog.Int("partition", int(partition)), slog.Int("attempt", attempt), slog.String("error", err.Error()))
		}
		store = r.giveUp(ctx, store)
		wait := min(r.backoff<<min(attempt, 6), 5*time.Second)
		select {
		case <-ctx.Done():
			return restored{store: store}, ctx.Err()
		case <-time.After(wait):
		}
		if errors.Is(err, errDisk) {
			r.awaitRoom(ctx)
		}
	}
}

// giveUp closes a store that is of no more use, and returns any other.
func (r *restorer) giveUp(ctx context.Context, store *pebbleStore) *pebbleStore {
	if store == nil || store.usable() == nil {
		return store
	}
	r.settings.gaveUp(store.usable())
	if err := store.close(); err != nil {
		r.logger.WarnContext(ctx, "closing an unusable store", slog.String("error", err.Error()))
	}
	return nil
}

// probeBytes is what has to fit on a disk that was full before a store is opened on it again.
const probeBytes = 1 << 20

// awaitRoom waits until the disk takes something again. A store that is opened in vain leaves files behind.
func (r *restorer) awaitRoom(ctx context.Context) {
	path := filepath.Join(r.dir, "probe")
	for {
		guard := newDiskGuard(r.settings.fs, nil)
		f, err := guard.Create(path, vfs.WriteCategoryUnspecified)
		if err == nil {
			_, err = f.Write(make([]byte, probeBytes))
			err = errors.Join(err, f.Sync(), f.Close(), guard.err())
		}
		_ = r.settings.fs.Remove(path) // nothing else would use the name
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// attempt is in three steps whose order matters. First the group's offsets are read and with them every
// transaction that could still commit for this partition is waited out: any later one carries an older
// generation and is refused (each carries offsets of the partition, see member.fence). Only then is the
// end of the changelog looked up, and read up to.
func (r *restorer) attempt(ctx context.Context, partition int32, store *pebbleStore) (*pebbleStore, map[string]kgo.EpochOffset, error) {
	log, store, err := r.open(ctx, partition, store)
	if err != nil {
		return store, nil, err
	}
	offsets, err := r.stableOffsets(ctx, partition)
	if err != nil {
		return store, nil, err
	}
	store, err = r.catchUp(ctx, log, store)
	return store, offsets, err
}

// open looks the changelog up and opens the store, unless there is one that is of use.
func (r *restorer) open(ctx context.Context, partition int32, store *pebbleStore) (changelog, *pebbleStore, error) {
	log, err := r.lookUp(ctx, partition)
	if err != nil {
		return log, store, err
	}
	if store != nil && store.broken.Load() {
		r.logger.WarnContext(ctx, "the local store is damaged and will be rebuilt", slog.Int("partition", int(partition)))
	}
	if store = r.giveUp(ctx, store); store == nil {
		store, err = openPebble(filepath.Join(r.dir, strconv.Itoa(int(partition))), log.id, r.settings)
	}
	return log, store, err
}

// catchUp brings a store to where the changelog ends now.
func (r *restorer) catchUp(ctx context.Context, log changelog, store *pebbleStore) (*pebbleStore, error) {
	at := r.settings.now()
	end, err := r.endOf(ctx, log.partition)
	if err != nil {
		return store, err
	}
	if store.position() > end {
		r.logger.WarnContext(ctx, "the local store is ahead of its changelog and will be rebuilt", slog.Int("partition", int(log.partition)))
		if store, err = store.wipe(r.settings); err != nil {
			return nil, err
		}
	}
	store, err = r.follow(ctx, log, store, end)
	if err == nil && store.position() < end {
		err = fmt.Errorf("the local store stands at %d of %d after its restore: what was written did not stay", store.position(), end)
	}
	if err == nil {
		store.current(at)
	}
	return store, err
}

// changelog is where a partition of the changelog is read.
type changelog struct {
	partition int32
	id        [16]byte
	leader    int32
	epoch     int32
}

func (r *restorer) lookUp(ctx context.Context, partition int32) (changelog, error) {
	details, err := kadm.NewClient(r.client).ListTopics(ctx, r.top.ChangelogTopic())
	if err != nil {
		return changelog{}, fmt.Errorf("looking up the changelog: %w", err)
	}
	topic := details[r.top.ChangelogTopic()]
	p, ok := topic.Partitions[partition]
	if err := errors.Join(topic.Err, p.Err); err != nil || !ok {
		return changelog{}, fmt.Errorf("looking up partition %d of %s: %w", partition, r.top.ChangelogTopic(), errors.Join(err, kerr.UnknownTopicOrPartition))
	}
	return changelog{partition: partition, id: topic.ID, leader: p.Leader, epoch: p.LeaderEpoch}, nil
}

// stableOffsets returns where the group stands in each input of the partition, once no transaction is
// open that could move it; the beginning of an input that nothing was committed for.
func (r *restorer) stableOffsets(ctx context.Context, partition int32) (map[string]kgo.EpochOffset, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = true
	group := kmsg.NewOffsetFetchRequestGroup()
	group.Group = r.top.Group()
	for _, name := range r.top.consumed() {
		topic := kmsg.NewOffsetFetchRequestGroupTopic()
		topic.Topic = name
		topic.Partitions = []int32{partition}
		group.Topics = append(group.Topics, topic)
	}
	req.Groups = append(req.Groups, group)
	for {
		offsets, err := r.fetchOffsets(ctx, req, partition)
		if !errors.Is(err, kerr.UnstableOffsetCommit) {
			if err != nil {
				return nil, fmt.Errorf("reading the group's offsets: %w", err)
			}
			return offsets, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (r *restorer) fetchOffsets(ctx context.Context, req *kmsg.OffsetFetchRequest, partition int32) (map[string]kgo.EpochOffset, error) {
	resp, err := req.RequestWith(ctx, r.client)
	if err != nil {
		return nil, err
	}
	if len(resp.Groups) != 1 {
		return nil, fmt.Errorf("the broker answered for %d groups", len(resp.Groups))
	}
	if err := kerr.ErrorForCode(resp.Groups[0].ErrorCode); err != nil {
		return nil, err
	}
	offsets := make(map[string]kgo.EpochOffset)
	for _, topic := range resp.Groups[0].Topics {
		for _, p := range topic.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return nil, err
			}
			if p.Offset >= 0 {
				offsets[topic.Topic] = kgo.EpochOffset{Epoch: p.LeaderEpoch, Offset: p.Offset}
			}
		}
	}
	return offsets, r.addStarts(ctx, offsets, partition)
}

func (r *restorer) addStarts(ctx context.Context, offsets map[string]kgo.EpochOffset, partition int32) error {
	var missing []string
	for _, topic := range r.top.consumed() {
		if _, ok := offsets[topic]; !ok {
			missing = append(missing, topic)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	starts, err := kadm.NewClient(r.client).ListStartOffsets(ctx, missing...)
	if err != nil {
		return err
	}
	for _, topic := range missing {
		start, ok := starts.Lookup(topic, partition)
		if !ok || start.Err != nil {
			return fmt.Errorf("looking up the beginning of %s: %w", topic, errors.Join(start.Err, kerr.UnknownTopicOrPartition))
		}
		offsets[topic] = kgo.EpochOffset{Epoch: -1, Offset: start.Offset}
	}
	return nil
}

// endOf is the high watermark of the changelog, open transactions included.
func (r *restorer) endOf(ctx context.Context, partition int32) (int64, error) {
	ends, err := kadm.NewClient(r.client).ListEndOffsets(ctx, r.top.ChangelogTopic())
	if err != nil {
		return 0, fmt.Errorf("looking up the end of the changelog: %w", err)
	}
	end, ok := ends.Lookup(r.top.ChangelogTopic(), partition)
	if !ok || end.Err != nil {
		return 0, fmt.Errorf("looking up the end of the changelog: %w", errors.Join(end.Err, kerr.UnknownTopicOrPartition))
	}
	return end.Offset, nil
}

// fetched is an answer of the broker to one fetch.
type fetched struct {
	records []*kgo.Record
	next    int64
	end     int64 // the high watermark
	err     error
}

// follow reads the changelog read-committed up to end and applies it. A transaction that is open below
// end holds it up until it has ended. While one answer is applied the next is on its way.
func (r *restorer) follow(ctx context.Context, log changelog, store *pebbleStore, end int64) (*pebbleStore, error) {
	report := newRestoreReport(r, log.partition, store.position(), end)
	if !store.loading && (!store.empty || end-store.position() < bulkThreshold) {
		return r.read(ctx, log, store, report, func(records []*kgo.Record, next int64) error {
			return applyChangelog(store, records, next)
		})
	}
	load, err := newBulk(store, r.settings, r.loads)
	if err != nil {
		return store, err
	}
	defer load.drop()
	store, err = r.read(ctx, log, store, report, func(records []*kgo.Record, next int64) error {
		return load.take(ctx, records, next)
	})
	if err != nil {
		return store, err
	}
	return store, load.finish(ctx)
}

// read hands the changelog up to end to take, answer by answer.
func (r *restorer) read(ctx context.Context, log changelog, store *pebbleStore, report *restoreReport, take func(records []*kgo.Record, next int64) error) (*pebbleStore, error) {
	position, end := store.position(), report.end
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var ahead chan fetched
	fetch := func(from int64) chan fetched {
		answer := make(chan fetched, 1)
		go func() { answer <- r.fetch(ctx, log, from, restoreFetchWait) }()
		return answer
	}
	if position < end {
		ahead = fetch(position)
	}
	for position < end {
		got := <-ahead
		if errors.Is(got.err, kerr.OffsetOutOfRange) {
			// The changelog begins later than the store stands: what is missing cannot be known.
			return r.restart(ctx, log, store)
		}
		if got.err != nil {
			return store, fmt.Errorf("reading the changelog: %w", got.err)
		}
		if got.next < end {
			ahead = fetch(got.next)
		}
		if err := take(got.records, got.next); err != nil {
			if got.next < end {
				cancel()
				<-ahead
			}
			return store, err
		}
		position = got.next
		report.at(position, len(got.records))
	}
	return store, nil
}

// restoreReport tells how far a restore has come: each answer to OnRestore, and a long restore every few
// seconds to the log.
type restoreReport struct {
	restorer *restorer
	progress RestoreProgress
	begin    int64
	end      int64
	begun    time.Time
	logged   time.Time
}

// reportEvery is how often a restore that takes long says so in the log.
const reportEvery = 5 * time.Second

func newRestoreReport(r *restorer, partition int32, begin, end int64) *restoreReport {
	now := time.Now()
	return &restoreReport{
		restorer: r, begin: begin, end: end, begun: now, logged: now,
		progress: RestoreProgress{Topology: r.top.Name, Partition: partition, Position: begin, End: end},
	}
}

func (p *restoreReport) at(position int64, records int) {
	p.progress.Position = min(position, p.end)
	p.progress.Records += int64(records)
	p.progress.Done = position >= p.end
	p.restorer.progress(p.progress)
	now := time.Now()
	if now.Sub(p.logged) < reportEvery && (!p.progress.Done || p.logged.Equal(p.begun)) {
		return
	}
	p.logged = now
	rate := float64(position-p.begin) / now.Sub(p.begun).Seconds()
	remaining := p.end - p.progress.Position
	p.restorer.logger.Info("restoring a partition from its changelog",
		slog.Int("partition", int(p.progress.Partition)), slog.Int64("remaining", remaining), slog.Int64("end", p.end),
		slog.Int64("offsets_per_second", int64(rate)),
		slog.Duration("estimate", time.Duration(float64(remaining)/max(rate, 1)*float64(time.Second)).Round(time.Second)))
}

func (r *restorer) restart(ctx context.Context, log changelog, store *pebbleStore) (*pebbleStore, error) {
	starts, err := kadm.NewClient(r.client).ListStartOffsets(ctx, r.top.ChangelogTopic())
	if err != nil {
		return store, fmt.Errorf("looking up the beginning of the changelog: %w", err)
	}
	start, ok := starts.Lookup(r.top.ChangelogTopic(), log.partition)
	if !ok || start.Err != nil {
		return store, fmt.Errorf("looking up the beginning of the changelog: %w", errors.Join(start.Err, kerr.UnknownTopicOrPartition))
	}
	fresh, err := store.wipe(r.settings)
	if err != nil {
		return nil, err
	}
	fresh.pos = start.Offset
	return fresh, errors.New("the changelog begins later than the store stands; the store was wiped")
}

// restoreFetchBytes is what one fetch of a restore asks for, and restoreFetchWait how long it waits for
// something to come: no longer, because fetches of other partitions wait behind it on the same connection.
const (
	restoreFetchBytes = 4 << 20
	restoreFetchWait  = 500 * time.Millisecond
)

// fetch asks the leader itself instead of consuming: only the answer to a raw fetch says how far it came
// when the end of the log is all markers and aborted records.
func (r *restorer) fetch(ctx context.Context, log changelog, from int64, wait time.Duration) fetched {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(wait.Milliseconds()), 1, restoreFetchBytes
	req.IsolationLevel = 1
	req.SessionEpoch = -1
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = r.top.ChangelogTopic(), log.id
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition, part.FetchOffset, part.PartitionMaxBytes = log.partition, from, restoreFetchBytes
	part.CurrentLeaderEpoch = log.epoch
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)

	kresp, err := r.client.Broker(int(log.leader)).RetriableRequest(ctx, req)
	if err != nil {
		return fetched{err: err}
	}
	resp, ok := kresp.(*kmsg.FetchResponse)
	if !ok || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return fetched{err: errors.Join(kerr.ErrorForCode(resp.ErrorCode), errors.New("the broker's answer is not for the partition asked for"))}
	}
	answer, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: from, IsolationLevel: kgo.ReadCommitted(), Topic: r.top.ChangelogTopic(), Partition: log.partition,
	}, &resp.Topics[0].Partitions[0], kgo.DefaultDecompressor(), nil)
	if answer.Err != nil {
		return fetched{err: answer.Err}
	}
	return fetched{records: answer.Records, next: next, end: answer.HighWatermark}
}

// applyChangelog writes records of the changelog to a store, and the due index that follows from them.
func applyChangelog(s store, records []*kgo.Record, next int64) error {
	var mem arena
	writes := make([]write, 0, len(records)+len(records)/2)
	timers := make(map[string][2][]byte) // store key → value in the store, last value read
	for _, rec := range records {
		kind, _, _, err := splitStoreKey(rec.Key)
		if err != nil {
			return fmt.Errorf("reading the changelog at offset %d: %w", rec.Offset, err)
		}
		writes = append(writes, write{key: rec.Key, value: rec.Value})
		if kind != kindTimer {
			continue
		}
		v, seen := timers[string(rec.Key)]
		if !seen {
			old, _, err := s.get(rec.Key, &mem)
			if err != nil {
				return err
			}
			v[0] = old
		}
		v[1] = rec.Value
		timers[string(rec.Key)] = v
	}
	for key, v := range timers {
		_, k, id, err := splitStoreKey([]byte(key))
		if err != nil {
			return err
		}
		if old, err := parseTimerValue(v[0]); v[0] != nil && err == nil {
			writes = append(writes, write{key: appendDueKey(nil, old.due, k, string(id))})
		}
		if now, err := parseTimerValue(v[1]); v[1] != nil && err == nil {
			writes = append(writes, write{key: appendDueKey(nil, now.due, k, string(id)), value: v[1]})
		}
	}
	return s.apply(writes, next)
}
