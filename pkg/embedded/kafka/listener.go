package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
)

// port is the broker's listening socket. It outlives the broker behind it, so
// that clients of a broker that is being reopened wait instead of failing.
type port struct {
	ln         net.Listener
	advertised advertised
	conns      chan net.Conn
	failed     func(error)

	closing chan struct{}
	once    sync.Once
	done    chan struct{}
}

// advertised is the address that the broker tells its clients.
type advertised string

// Network implements [net.Addr].
func (advertised) Network() string { return "tcp" }

// String implements [net.Addr].
func (a advertised) String() string { return string(a) }

// listen binds an address. The broker tells its clients the advertised address,
// or without one the host asked for, or 127.0.0.1 where that is a wildcard.
func listen(addr, advertise string) (*port, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("the embedded Kafka's address %q is not host:port: %w", addr, err)
	}
	var socket net.ListenConfig
	ln, err := socket.Listen(context.Background(), "tcp", addr) // binding an address does not wait
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("the embedded Kafka's address %s is in use: stop the other process, or set another address: %w", addr, err)
	}
	if err != nil {
		return nil, fmt.Errorf("listening on %s for the embedded Kafka: %w", addr, err)
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	_, bound, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading the embedded Kafka's port: %w", err), ln.Close())
	}
	at := net.JoinHostPort(host, bound)
	if advertise != "" {
		at = advertise
	}
	return &port{
		ln: ln, advertised: advertised(at), conns: make(chan net.Conn),
		closing: make(chan struct{}), done: make(chan struct{}),
	}, nil
}

// serve accepts connections until close and hands them to the broker's current
// listener.
func (p *port) serve(failed func(error)) {
	p.failed = failed
	go p.accept()
}

func (p *port) accept() {
	defer close(p.done)
	for {
		conn, err := p.ln.Accept()
		if err != nil {
			select {
			case <-p.closing:
			default:
				p.failed(fmt.Errorf("accepting connections on %s: %w", p.advertised, err))
			}
			return
		}
		select {
		case p.conns <- conn:
		case <-p.closing:
			_ = conn.Close() // the client sees the end of the connection
		}
	}
}

// close ends the socket; serving says whether serve was called.
func (p *port) close(serving bool) {
	p.once.Do(func() {
		close(p.closing)
		_ = p.ln.Close() // nothing to do about a socket that does not close
	})
	if serving {
		<-p.done
	}
}

// session is the listener that one broker gets: closing it leaves the socket.
// It accepts nobody until it is opened.
type session struct {
	port   *port
	opened chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (p *port) session() *session {
	return &session{port: p, opened: make(chan struct{}), closed: make(chan struct{})}
}

// open lets clients in.
func (s *session) open() { close(s.opened) }

// Accept implements [net.Listener].
func (s *session) Accept() (net.Conn, error) {
	select {
	case <-s.closed:
		return nil, net.ErrClosed
	case <-s.opened:
	}
	select {
	case conn := <-s.port.conns:
		return conn, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (s *session) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// Addr implements [net.Listener].
func (s *session) Addr() net.Addr { return s.port.advertised }
