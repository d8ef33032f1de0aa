package bench

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// request is an HTTP request as it goes over the wire. The client writes and reads by hand: it must not
// be what is measured.
func request(path, key string, body []byte) []byte {
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: bench\r\nAuthorization: Basic %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
		path, base64.StdEncoding.EncodeToString([]byte(key+":")), len(body))
	return append([]byte(head), body...)
}

// load sends requests over keep-alive connections for as long as next has any.
type load struct {
	addr        string
	connections int
	// next is the i-th request of a connection; nil ends it. It is called by many goroutines.
	next func(connection, i int) []byte
}

// run sends everything and returns how long each request took, sorted. One answer that is not 200 ends it.
func (l load) run(ctx context.Context) ([]time.Duration, error) {
	took := make([][]time.Duration, l.connections)
	var group errgroup.Group
	for c := range l.connections {
		group.Go(func() (err error) {
			took[c], err = l.connection(ctx, c)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	all := slices.Concat(took...)
	slices.Sort(all)
	return all, nil
}

func (l load) connection(ctx context.Context, c int) (took []time.Duration, err error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", l.addr)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", l.addr, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	answer := make([]byte, 4096)
	for i := 0; ctx.Err() == nil; i++ {
		out := l.next(c, i)
		if out == nil {
			break
		}
		begun := time.Now()
		if _, err := conn.Write(out); err != nil {
			return nil, fmt.Errorf("sending a request: %w", err)
		}
		n, err := conn.Read(answer) // answers are short and come in one piece
		if err != nil {
			return nil, fmt.Errorf("reading an answer: %w", err)
		}
		if !bytes.HasPrefix(answer[:n], []byte("HTTP/1.1 200")) {
			return nil, fmt.Errorf("the answer is no 200: %q", answer[:n])
		}
		took = append(took, time.Since(begun))
	}
	return took, ctx.Err()
}

// percentile of sorted durations, in milliseconds.
func percentile(sorted []time.Duration, p int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[min(len(sorted)-1, len(sorted)*p/100)].Microseconds()) / 1000
}
