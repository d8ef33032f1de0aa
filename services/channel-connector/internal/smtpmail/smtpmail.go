// Package smtpmail sends e-mail over SMTP, with github.com/wneessen/go-mail.
//
// Every attempt of a send carries the same Message-ID, made from the send's id: a provider that drops
// repeated ids does not double a mail whose answer got lost.
package smtpmail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/sillage-cdp/sillage/pkg/secret"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/delivery"
)

// Bounds of one attempt: of dialling and greeting, and of the conversation that follows.
const (
	dialTimeout = 15 * time.Second
	talkTimeout = 20 * time.Second
)

// Sender sends the mails of one channel.
type Sender struct {
	client *mail.Client
	from   string
}

// New makes the sender of a channel; outbox is the address that stands in for an empty `smtp`.
func New(channel *definitionv1.EmailChannel, outbox string) (*Sender, error) {
	addr := channel.GetSmtp()
	if addr == "" {
		addr = outbox
	}
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("reading email.smtp %q: %w (write host:port)", addr, err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("reading email.smtp %q: %w (write host:port)", addr, err)
	}
	options := []mail.Option{mail.WithPort(port), mail.WithTimeout(talkTimeout), mail.WithHELO("sillage.localhost")}
	options = append(options, security(channel.GetTls(), host)...)
	if channel.GetUsername() != "" {
		password, err := secret.Resolve(channel.GetPasswordRef())
		if err != nil {
			return nil, err
		}
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(channel.GetUsername()), mail.WithPassword(password.Reveal()))
	}
	client, err := mail.NewClient(host, options...)
	if err != nil {
		return nil, fmt.Errorf("making the SMTP client for %s: %w", addr, err)
	}
	return &Sender{client: client, from: channel.GetFrom()}, nil
}

func security(mode, host string) []mail.Option {
	config := mail.WithTLSConfig(&tls.Config{ServerName: host, MinVersion: tls.VersionTLS12})
	switch mode {
	case "tls":
		return []mail.Option{config, mail.WithSSL()}
	case "required":
		return []mail.Option{config, mail.WithTLSPolicy(mail.TLSMandatory)}
	case "none":
		return []mail.Option{mail.WithTLSPolicy(mail.NoTLS)}
	default:
		return []mail.Option{config, mail.WithTLSPolicy(mail.TLSOpportunistic)}
	}
}

// Send makes one attempt. Errors are *delivery.Failure.
func (s *Sender) Send(ctx context.Context, m delivery.Message) error {
	message, err := s.compose(m)
	if err != nil {
		return &delivery.Failure{Kind: delivery.Permanent, Reason: "bad_mail", Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	connection, err := s.client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return &delivery.Failure{Kind: delivery.Temporary, Reason: "smtp_connect", Err: err}
	}
	err = s.client.SendWithSMTPClient(connection, message)
	if failed := classify(err); failed != nil {
		// No goodbye: after a mail that was cut short it would end the mail and have half of it delivered.
		_ = connection.Close()
		return failed
	}
	// The mail is delivered: a failing goodbye changes nothing.
	if s.client.CloseWithSMTPClient(connection) != nil {
		_ = connection.Close()
	}
	return nil
}

func (s *Sender) compose(m delivery.Message) (*mail.Msg, error) {
	if m.Email == nil {
		return nil, errors.New("the template makes no e-mail")
	}
	message := mail.NewMsg()
	if err := message.From(s.from); err != nil {
		return nil, fmt.Errorf("reading email.from: %w", err)
	}
	if err := message.To(m.Email.To); err != nil {
		return nil, errors.New("the address cannot be read")
	}
	// One line, whatever a variable holds: a line break would read as the end of the header.
	message.Subject(strings.Join(strings.Fields(m.Email.Subject), " "))
	message.SetDateWithValue(m.Email.Date)
	message.SetMessageIDWithValue(m.ID + "@sillage")
	message.SetGenHeaderPreformatted(mail.HeaderListUnsubscribe, "<"+m.Email.UnsubscribeURL+">")
	message.SetGenHeader(mail.HeaderListUnsubscribePost, "List-Unsubscribe=One-Click")
	switch {
	case m.Email.Text != "" && m.Email.HTML != "":
		message.SetBodyString(mail.TypeTextPlain, m.Email.Text)
		message.AddAlternativeString(mail.TypeTextHTML, m.Email.HTML)
	case m.Email.HTML != "":
		message.SetBodyString(mail.TypeTextHTML, m.Email.HTML)
	default:
		message.SetBodyString(mail.TypeTextPlain, m.Email.Text)
	}
	return message, nil
}

// classify turns the client's error into what it means for the next attempt.
func classify(err error) error {
	if err == nil {
		return nil
	}
	var sendErr *mail.SendError
	if !errors.As(err, &sendErr) {
		return &delivery.Failure{Kind: delivery.Ambiguous, Reason: "smtp_cut", Err: err}
	}
	code := sendErr.ErrorCode()
	f := &delivery.Failure{Reason: "smtp_" + strconv.Itoa(code), Err: err}
	switch {
	case sendErr.Reason == mail.ErrSMTPReset:
		return nil // the server had taken the mail: only tidying up failed
	case code == 421 || code == 450 || code == 451 || code == 452:
		f.Kind = delivery.Temporary
	case code >= 500:
		f.Kind, f.Bounce = delivery.Permanent, sendErr.Reason == mail.ErrSMTPRcptTo
	case sendErr.IsTemp() || code >= 400:
		f.Kind = delivery.Temporary
	case sendErr.Reason == mail.ErrSMTPDataClose:
		// The mail had gone out whole; what the server made of it nobody heard.
		f.Kind, f.Reason = delivery.Ambiguous, "smtp_cut"
	default:
		// Without the mark at its end no server takes a mail.
		f.Kind, f.Reason = delivery.Temporary, "smtp_broken"
	}
	return f
}
