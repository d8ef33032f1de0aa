package stream

import (
	"context"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// janitorPause is how often local state is looked through for what nobody uses.
const janitorPause = 10 * time.Minute

// removedSuffix marks the directory of a store that is being removed.
const removedSuffix = ".removed"

// janitor removes the stores of partitions that moved away and stayed away, and those that an earlier run
// left behind, once they have not been written for a while. So a partition that comes back soon finds its
// store, and the disk holds no more than what is in use and what moved in the last hours.
//
// One goroutine uses it: the one that opens and closes stores.
type janitor struct {
	fs      vfs.FS
	dir     string
	keep    time.Duration
	now     func() time.Time
	logger  *slog.Logger
	removed func(partition int32)

	last time.Time
}

// sweep looks through the directory if it has not done so lately. A store is renamed first: that is done at
// once, and what it is called then nobody opens.
func (j *janitor) sweep(ctx context.Context, used func(int32) bool) {
	now := j.now()
	if !j.last.IsZero() && now.Sub(j.last) < janitorPause {
		return
	}
	j.last = now
	names, err := j.fs.List(j.dir)
	if err != nil {
		return // nothing is there yet
	}
	for _, name := range names {
		path := j.fs.PathJoin(j.dir, name)
		if strings.HasSuffix(name, removedSuffix) {
			j.remove(ctx, path) // an earlier run did not come to its end
			continue
		}
		p, err := strconv.ParseInt(name, 10, 32)
		if err != nil || used(int32(p)) || now.Sub(j.lastWrite(path)) < j.keep {
			continue
		}
		if err := j.fs.Rename(path, path+removedSuffix); err != nil {
			j.logger.WarnContext(ctx, "removing local state that is not used", slog.String("error", err.Error()))
			continue
		}
		j.logger.InfoContext(ctx, "removing local state of a partition that stayed away", slog.Int64("partition", p))
		j.removed(int32(p))
		j.remove(ctx, path+removedSuffix)
	}
}

func (j *janitor) remove(ctx context.Context, path string) {
	if err := j.fs.RemoveAll(path); err != nil {
		j.logger.WarnContext(ctx, "removing local state that is not used", slog.String("error", err.Error()))
	}
}

// lastWrite is when a store was last written to: the time of its newest file. One that cannot be read is
// as old as can be.
func (j *janitor) lastWrite(dir string) (newest time.Time) {
	note := func(info os.FileInfo, err error) {
		if err == nil && info.ModTime().After(newest) {
			newest = info.ModTime()
		}
	}
	info, err := j.fs.Stat(dir)
	note(info, err)
	names, err := j.fs.List(dir)
	if err != nil {
		return newest
	}
	for _, name := range names {
		info, err := j.fs.Stat(j.fs.PathJoin(dir, name))
		note(info, err)
	}
	return newest
}
