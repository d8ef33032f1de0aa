// Package network is a network between a Kafka client and its broker that loses, tears and changes single
// messages, and that can be cut altogether.
//
// It sits in the client's dialer, so that it knows every request by its kind and by how many of that kind
// went before, retries included, whatever broker is at the other end. [TestFates] shows that each fate is
// what its name says.
//
// It relies on the client writing one request at a time to a connection without TLS, as franz-go does.
package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Fate is what becomes of a request and its answer.
type Fate int

// The fates. In all but the first two the broker handles the request.
const (
	// Pass lets both through.
	Pass Fate = iota
	// LoseRequest tears the connection before the request is out.
	LoseRequest
	// LoseAnswer tears the connection when the answer comes.
	LoseAnswer
	// Silence lets the answer and all that follows on the connection never come: the client runs into its
	// time-out.
	Silence
	// Rewrite lets the answer say that the request failed with Verdict.Error.
	Rewrite
)

// Verdict is the fate of one request.
type Verdict struct {
	Fate  Fate
	Error *kerr.Error // of Rewrite
}

// Request is what a verdict is given on.
type Request struct {
	Key     kmsg.Key
	Version int16
	// Index is how many requests of this key went before, on all connections.
	Index int
}

// errTorn is what a torn connection gives: an error of the operating system, which clients try again on.
var errTorn error = &net.OpError{Op: "torn", Net: "tcp", Err: os.NewSyscallError("torn", syscall.ECONNRESET)}

// Network hands out connections. Its methods may be called from several goroutines.
type Network struct {
	decide func(Request) Verdict

	mu    sync.Mutex // guards what follows
	seen  map[kmsg.Key]int
	conns map[*conn]bool
	cut   bool
}

// New returns a network that asks decide about every request, one at a time; nil lets all pass.
func New(decide func(Request) Verdict) *Network {
	if decide == nil {
		decide = func(Request) Verdict { return Verdict{} }
	}
	return &Network{decide: decide, seen: make(map[kmsg.Key]int), conns: make(map[*conn]bool)}
}

// Dial is for kgo.Dialer.
func (n *Network) Dial(ctx context.Context, network, host string) (net.Conn, error) {
	if n.isCut() {
		return nil, errTorn
	}
	inner, err := (&net.Dialer{}).DialContext(ctx, network, host)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: inner, network: n, waiting: make(map[int32]sent)}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut {
		return nil, errors.Join(errTorn, inner.Close())
	}
	n.conns[c] = true
	return c, nil
}

// Cut tears all connections and lets nobody connect until Mend.
func (n *Network) Cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = true
	for c := range n.conns {
		_ = c.Conn.Close() // torn
	}
	clear(n.conns)
}

// Mend ends a cut.
func (n *Network) Mend() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = false
}

// Seen is how many requests of a key went out so far.
func (n *Network) Seen(key kmsg.Key) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.seen[key]
}

func (n *Network) isCut() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut
}

func (n *Network) verdict(key kmsg.Key, version int16) Verdict {
	n.mu.Lock()
	defer n.mu.Unlock()
	req := Request{Key: key, Version: version, Index: n.seen[key]}
	n.seen[key]++
	return n.decide(req)
}

func (n *Network) forget(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.conns, c)
}

// sent is a request whose answer is not to pass.
type sent struct {
	key     kmsg.Key
	version int16
	verdict Verdict
}

// conn looks at each request that is written, and hands out answers one at a time.
type conn struct {
	net.Conn
	network *Network

	mu      sync.Mutex // guards waiting
	waiting map[int32]sent

	answer []byte // rest of the answer in hand; of the one goroutine that reads
}

// header of a request: length, key, version, correlation id.
const headerBytes = 12

func (c *conn) Write(p []byte) (int, error) {
	if len(p) < headerBytes || int(binary.BigEndian.Uint32(p))+4 != len(p) {
		return 0, errors.Join(fmt.Errorf("a write of %d bytes is not one request", len(p)), c.Close())
	}
	key, version := kmsg.Key(binary.BigEndian.Uint16(p[4:])), int16(binary.BigEndian.Uint16(p[6:]))
	switch v := c.network.verdict(key, version); v.Fate {
	case LoseRequest:
		return 0, errors.Join(errTorn, c.Close())
	case LoseAnswer, Silence, Rewrite:
		c.mu.Lock()
		c.waiting[int32(binary.BigEndian.Uint32(p[8:]))] = sent{key: key, version: version, verdict: v}
		c.mu.Unlock()
	case Pass:
	}
	return c.Conn.Write(p)
}

func (c *conn) Read(p []byte) (int, error) {
	if len(c.answer) == 0 {
		answer, err := c.next()
		if err != nil {
			return 0, err
		}
		c.answer = answer
	}
	n := copy(p, c.answer)
	c.answer = c.answer[n:]
	return n, nil
}

// next reads a whole answer and does to it what it is due.
func (c *conn) next() ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(c.Conn, length[:]); err != nil {
		return nil, err
	}
	frame := make([]byte, 4+binary.BigEndian.Uint32(length[:]))
	copy(frame, length[:])
	if _, err := io.ReadFull(c.Conn, frame[4:]); err != nil {
		return nil, err
	}
	c.mu.Lock()
	s, ok := c.waiting[int32(binary.BigEndian.Uint32(frame[4:]))]
	c.mu.Unlock()
	if !ok {
		return frame, nil
	}
	switch s.verdict.Fate {
	case LoseAnswer:
		return nil, errors.Join(errTorn, c.Close())
	case Silence:
		_, err := io.Copy(io.Discard, c.Conn) // until the client's deadline or its end
		return nil, errors.Join(err, os.ErrDeadlineExceeded)
	case Rewrite:
		return rewrite(frame, s)
	case Pass, LoseRequest:
	}
	return frame, nil
}

func (c *conn) Close() error {
	c.network.forget(c)
	return c.Conn.Close()
}

// rewrite gives an answer the error of its verdict.
func rewrite(frame []byte, s sent) ([]byte, error) {
	resp := kmsg.ResponseForKey(s.key.Int16())
	if resp == nil {
		return nil, fmt.Errorf("rewriting an answer: key %d is not known", s.key)
	}
	resp.SetVersion(s.version)
	body := 8
	if resp.IsFlexible() {
		if frame[body] != 0 {
			return nil, errors.New("rewriting an answer: its header has tags")
		}
		body++
	}
	if err := resp.ReadFrom(frame[body:]); err != nil {
		return nil, fmt.Errorf("rewriting an answer: %w", err)
	}
	setErrors(resp, s.verdict.Error)
	frame = resp.AppendTo(frame[:body:body])
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	return frame, nil
}
