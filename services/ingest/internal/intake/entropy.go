package intake

import (
	"io"
	"sync"
)

// entropy reads random bytes in blocks, so that a message id does not cost a system call.
type entropy struct {
	from io.Reader

	mu    sync.Mutex // guards block and left
	block [1024]byte
	left  int
}

// Read fills p.
func (e *entropy) Read(p []byte) (int, error) {
	if len(p) > len(e.block) {
		return io.ReadFull(e.from, p)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.left < len(p) {
		if _, err := io.ReadFull(e.from, e.block[:]); err != nil {
			return 0, err
		}
		e.left = len(e.block)
	}
	n := copy(p, e.block[len(e.block)-e.left:])
	e.left -= n
	return n, nil
}
