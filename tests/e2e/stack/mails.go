package stack

import (
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/stretchr/testify/require"
)

// Mail is a mail of the outbox, read by code of the tests' own.
type Mail struct {
	Header      mail.Header
	To, Subject string
	HTML, Text  string
}

// Mails are all mails of the outbox.
func (s *Stack) Mails(t require.TestingT) []Mail {
	files, err := filepath.Glob(filepath.Join(s.DataDir, "outbox", "*.eml"))
	require.NoError(t, err)
	var mails []Mail
	for _, name := range files {
		mails = append(mails, readMail(t, name))
	}
	return mails
}

// MailsTo are the mails to one address.
func (s *Stack) MailsTo(t require.TestingT, address string) []Mail {
	var mails []Mail
	for _, m := range s.Mails(t) {
		if m.To == address {
			mails = append(mails, m)
		}
	}
	return mails
}

func readMail(t require.TestingT, name string) Mail {
	file, err := os.Open(name)
	require.NoError(t, err)
	defer file.Close() //nolint:errcheck // read only
	message, err := mail.ReadMessage(file)
	require.NoError(t, err, name)
	to, err := message.Header.AddressList("To")
	require.NoError(t, err, name)
	require.Len(t, to, 1, name)
	subject, err := new(mime.WordDecoder).DecodeHeader(message.Header.Get("Subject"))
	require.NoError(t, err, name)
	m := Mail{Header: message.Header, To: to[0].Address, Subject: subject}
	m.part(t, message.Header.Get("Content-Type"), message.Header.Get("Content-Transfer-Encoding"), message.Body)
	return m
}

func (m *Mail) part(t require.TestingT, contentType, encoding string, body io.Reader) {
	media, params, err := mime.ParseMediaType(contentType)
	require.NoError(t, err)
	if strings.HasPrefix(media, "multipart/") {
		parts := multipart.NewReader(body, params["boundary"])
		for {
			part, err := parts.NextRawPart()
			if err == io.EOF { // the reader's documented end
				return
			}
			require.NoError(t, err)
			m.part(t, part.Header.Get("Content-Type"), part.Header.Get("Content-Transfer-Encoding"), part)
		}
	}
	if strings.EqualFold(encoding, "quoted-printable") {
		body = quotedprintable.NewReader(body)
	}
	text, err := io.ReadAll(body)
	require.NoError(t, err)
	if media == "text/html" {
		m.HTML = string(text)
	} else {
		m.Text = string(text)
	}
}

var links = regexp.MustCompile(`(?:href|src)="([^"]*)"`)

// Link is the first address in the HTML body that holds part.
func (m *Mail) Link(t require.TestingT, part string) string {
	for _, found := range links.FindAllStringSubmatch(m.HTML, -1) {
		if strings.Contains(found[1], part) {
			return strings.ReplaceAll(found[1], "&amp;", "&")
		}
	}
	require.Failf(t, "no such link in the mail", "%q in\n%s", part, m.HTML)
	return ""
}
