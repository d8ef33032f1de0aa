package kafka

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// fileMark is a place in an append-only file that is sometimes replaced as a
// whole: its inode and its length.
type fileMark struct {
	Inode uint64 `json:"i,omitempty"`
	Size  int64  `json:"s,omitempty"`
}

// markFile returns the mark of a file's end; a missing file has the zero mark.
func markFile(path string) (fileMark, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fileMark{}, nil
	}
	if err != nil {
		return fileMark{}, fmt.Errorf("looking at %s: %w", path, err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileMark{}, fmt.Errorf("looking at %s: this system has no inodes", path)
	}
	return fileMark{Inode: stat.Ino, Size: info.Size()}, nil
}
