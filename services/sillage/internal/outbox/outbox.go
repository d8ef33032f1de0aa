// Package outbox is the mail server of `sillage up`: it takes every mail over SMTP, delivers none, and
// keeps each as an `.eml` file that any mail program opens.
//
// It keeps a mail before it answers 250, and keeps the mails of one Message-ID once, as large providers
// do: a sender that tries again after an answer that it never saw does not double the mail. Duplicates
// are counted. TestSameMessageIDIsKeptOnce would catch the loss of this.
package outbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/sillage-cdp/sillage/pkg/server/httpserver"
)

// maxMail bounds one mail in bytes.
const maxMail = 10 << 20

// Config is one outbox.
type Config struct {
	// Addr is where SMTP is served, `host:port`.
	Addr string
	// Dir is where mails are kept.
	Dir string
}

// Server is the outbox as a component.
type Server struct {
	cfg        Config
	smtp       *smtp.Server
	listener   net.Listener
	kept       atomic.Int64
	duplicates atomic.Int64
	failed     chan error
	done       chan struct{}
}

// New returns an outbox that is not started.
func New(cfg Config, logger *slog.Logger) *Server {
	s := &Server{cfg: cfg, failed: make(chan error, 1), done: make(chan struct{})}
	s.smtp = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{outbox: s}, nil }))
	s.smtp.Domain = "outbox.sillage.localhost"
	s.smtp.MaxMessageBytes = maxMail
	s.smtp.MaxRecipients = 100
	s.smtp.ReadTimeout = time.Minute
	s.smtp.WriteTimeout = time.Minute
	s.smtp.ErrorLog = slog.NewLogLogger(logger.Handler(), slog.LevelDebug)
	return s
}

// Start makes the folder and listens.
func (s *Server) Start(ctx context.Context) error {
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("making the outbox folder: %w", err)
	}
	listener, err := httpserver.Listen(ctx, httpserver.Config{Name: "outbox SMTP", Addr: s.cfg.Addr, Setting: "smtp.addr"})
	if err != nil {
		return err
	}
	s.listener = listener
	go func() {
		defer close(s.done)
		if err := s.smtp.Serve(listener); err != nil && !errors.Is(err, smtp.ErrServerClosed) {
			s.failed <- err
		}
	}()
	return nil
}

// Stop lets mails in flight finish within ctx.
func (s *Server) Stop(ctx context.Context) error {
	if s.listener == nil {
		return nil
	}
	err := s.smtp.Shutdown(ctx)
	if errors.Is(err, smtp.ErrServerClosed) {
		err = nil
	}
	if err != nil {
		// The connections still open are cut; closing a closing server is no error of its own.
		if closeErr := s.smtp.Close(); !errors.Is(closeErr, smtp.ErrServerClosed) {
			err = errors.Join(err, closeErr)
		}
	}
	<-s.done
	return err
}

// Ready is nil once the port is open.
func (s *Server) Ready(context.Context) error { return nil }

// Failed tells of a server that stopped by itself.
func (s *Server) Failed() <-chan error { return s.failed }

// Addr is where SMTP is served, once started.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Kept is how many mails were kept since the start.
func (s *Server) Kept() int64 { return s.kept.Load() }

// Duplicates is how many mails came again since the start.
func (s *Server) Duplicates() int64 { return s.duplicates.Load() }

// keep stores one mail under a name made from its Message-ID.
func (s *Server) keep(raw []byte) error {
	message, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "the mail's header cannot be read"}
	}
	name := filepath.Join(s.cfg.Dir, fileName(message.Header.Get("Message-ID"), raw))
	stored, err := writeOnce(name, raw)
	if err != nil {
		return &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 3, 1}, Message: "the outbox cannot store the mail now"}
	}
	if stored {
		s.kept.Add(1)
	} else {
		s.duplicates.Add(1)
	}
	return nil
}

// fileName is the same for the same Message-ID; a mail without one is named by its content.
func fileName(messageID string, raw []byte) string {
	id := strings.Trim(strings.TrimSpace(messageID), "<>")
	local, _, _ := strings.Cut(id, "@")
	safe := local != "" && len(local) <= 100 && strings.IndexFunc(local, notPlain) < 0
	if safe {
		return local + ".eml"
	}
	sum := sha256.Sum256([]byte(id))
	if id == "" {
		sum = sha256.Sum256(raw)
	}
	return hex.EncodeToString(sum[:16]) + ".eml"
}

func notPlain(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// writeOnce makes the file whole or not at all, and says whether it was not there before.
func writeOnce(name string, raw []byte) (bool, error) {
	temp, err := os.CreateTemp(filepath.Dir(name), ".incoming-*")
	if err != nil {
		return false, fmt.Errorf("storing a mail: %w", err)
	}
	defer os.Remove(temp.Name()) //nolint:errcheck // gone already when it was renamed
	_, err = temp.Write(raw)
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return false, fmt.Errorf("storing a mail: %w", err)
	}
	// A hard link fails if the name exists; a rename would replace the mail kept first.
	if err := os.Link(temp.Name(), name); errors.Is(err, os.ErrExist) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("storing a mail: %w", err)
	}
	return true, nil
}

// session is one SMTP conversation.
type session struct{ outbox *Server }

func (*session) Reset()                               {}
func (*session) Logout() error                        { return nil }
func (*session) Mail(string, *smtp.MailOptions) error { return nil }
func (*session) Rcpt(string, *smtp.RcptOptions) error { return nil }

func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("reading a mail: %w", err)
	}
	return s.outbox.keep(raw)
}
