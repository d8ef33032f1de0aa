package smtpmail_test

import (
	"bufio"
	"io"
	"mime"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/delivery"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/smtpmail"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a real SMTP server that answers as it is told and keeps what it takes.
type server struct {
	from, rcpt, data error

	mu    sync.Mutex
	mails []string
}

func (s *server) NewSession(*smtp.Conn) (smtp.Session, error) { return &session{s}, nil }

type session struct{ *server }

func (*session) Reset()                                 {}
func (*session) Logout() error                          { return nil }
func (s *session) Mail(string, *smtp.MailOptions) error { return s.from }
func (s *session) Rcpt(string, *smtp.RcptOptions) error { return s.rcpt }
func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil || s.data != nil {
		return s.data
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mails = append(s.mails, string(raw))
	return nil
}

func serve(t *testing.T, s *server) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	listening := smtp.NewServer(s)
	listening.Domain = "test.localhost"
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = listening.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = listening.Close()
		<-done
	})
	return listener.Addr().String()
}

func sender(t *testing.T, addr string) *smtpmail.Sender {
	t.Helper()
	s, err := smtpmail.New(&definitionv1.EmailChannel{From: "Demo Bank <hello@bank.example>", Tls: "none"}, addr)
	require.NoError(t, err)
	return s
}

func message() delivery.Message {
	return delivery.Message{ID: "5f3a", Email: &delivery.Email{
		To: "ada@example.com", Subject: "Your loan", HTML: "<p>Hi</p>", Text: "Hi",
		UnsubscribeURL: "https://t.example/t/u/" + strings.Repeat("aB3_-", 100), Date: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
	}}
}

func TestTheHeadersOfAMail(t *testing.T) {
	s := &server{}
	m := message()
	m.Email.Subject = "Été\r\nBcc: everybody@example.com\n"
	require.NoError(t, sender(t, serve(t, s)).Send(t.Context(), m))
	require.NoError(t, sender(t, serve(t, s)).Send(t.Context(), m))
	require.Len(t, s.mails, 2)
	for _, raw := range s.mails {
		got, err := mail.ReadMessage(strings.NewReader(raw))
		require.NoError(t, err)
		require.Equal(t, "<5f3a@sillage>", got.Header.Get("Message-ID"), "the same on every attempt")
		require.Equal(t, "Sun, 01 Mar 2026 12:00:00 +0000", got.Header.Get("Date"))
		require.Equal(t, "<"+m.Email.UnsubscribeURL+">", strings.TrimSpace(got.Header.Get("List-Unsubscribe")), "whole, however long")
		require.Equal(t, "List-Unsubscribe=One-Click", got.Header.Get("List-Unsubscribe-Post"))
		subject, err := new(mime.WordDecoder).DecodeHeader(got.Header.Get("Subject"))
		require.NoError(t, err)
		require.Equal(t, "Été Bcc: everybody@example.com", subject)
		require.Empty(t, got.Header.Get("Bcc"), "a variable makes no header")
		require.Contains(t, got.Header.Get("Content-Type"), "multipart/alternative")
	}
}

func TestRefusalsAreToldApart(t *testing.T) {
	refuse := func(code int) error { return &smtp.SMTPError{Code: code, Message: "no"} }
	for name, try := range map[string]struct {
		server *server
		kind   delivery.Kind
		reason string
		bounce bool
	}{
		"greylisted":      {&server{rcpt: refuse(451)}, delivery.Temporary, "smtp_451", false},
		"mailbox busy":    {&server{rcpt: refuse(450)}, delivery.Temporary, "smtp_450", false},
		"going down":      {&server{from: refuse(421)}, delivery.Temporary, "smtp_421", false},
		"no such address": {&server{rcpt: refuse(550)}, delivery.Permanent, "smtp_550", true},
		"sender refused":  {&server{from: refuse(553)}, delivery.Permanent, "smtp_553", false},
		"content refused": {&server{data: refuse(554)}, delivery.Permanent, "smtp_554", false},
		"content, later":  {&server{data: refuse(452)}, delivery.Temporary, "smtp_452", false},
		"an odd later":    {&server{data: refuse(499)}, delivery.Temporary, "smtp_499", false},
	} {
		t.Run(name, func(t *testing.T) {
			f := failure(t, sender(t, serve(t, try.server)).Send(t.Context(), message()))
			require.Equal(t, try.kind, f.Kind)
			require.Equal(t, try.reason, f.Reason)
			require.Equal(t, try.bounce, f.Bounce)
		})
	}
}

func failure(t *testing.T, err error) *delivery.Failure {
	t.Helper()
	require.Error(t, err)
	return delivery.AsFailure(err)
}

func TestAnAddressThatIsNoneIsPermanent(t *testing.T) {
	m := message()
	m.Email.To = "ada@example.com\r\nRCPT TO:<x@example.com>"
	f := failure(t, sender(t, "127.0.0.1:1").Send(t.Context(), m))
	require.Equal(t, delivery.Permanent, f.Kind)
	require.Equal(t, "bad_mail", f.Reason)
	require.NotContains(t, f.Error(), "example.com", "no personal data in errors")
}

func TestARefusedConnectionIsTemporary(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := listener.Addr().String()
	require.NoError(t, listener.Close())
	f := failure(t, sender(t, addr).Send(t.Context(), message()))
	require.Equal(t, delivery.Temporary, f.Kind)
	require.Equal(t, "smtp_connect", f.Reason)
}

// cutter speaks just enough SMTP to hang up at a given moment.
func cutter(t *testing.T, at string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "220 test\r\n")
		inData := false
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			line := lines.Text()
			switch {
			case inData && line != ".":
				continue
			case line == at || strings.HasPrefix(line, at+" "):
				return
			case line == "DATA":
				inData = true
				_, _ = io.WriteString(conn, "354 go on\r\n")
			default:
				inData = false
				_, _ = io.WriteString(conn, "250 ok\r\n")
			}
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return listener.Addr().String()
}

func TestACutIsAmbiguousOnlyAfterTheWholeMail(t *testing.T) {
	for at, want := range map[string]delivery.Kind{
		"EHLO": delivery.Temporary, "MAIL": delivery.Temporary, "RCPT": delivery.Temporary, "DATA": delivery.Temporary,
		".": delivery.Ambiguous,
	} {
		t.Run(at, func(t *testing.T) {
			require.Equal(t, want, failure(t, sender(t, cutter(t, at)).Send(t.Context(), message())).Kind)
		})
	}
	// The mail was taken; that the connection ends afterwards is nobody's loss.
	require.NoError(t, sender(t, cutter(t, "RSET")).Send(t.Context(), message()))
}
