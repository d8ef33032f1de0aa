package outbox

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// Mail is one mail of the outbox.
type Mail struct {
	// File is its path.
	File string
	// Header holds its header fields.
	Header mail.Header
	// To is the recipient, Subject the decoded subject line.
	To, Subject string
	// Date is the header's date; zero if it has none.
	Date time.Time
	// Bodies are its text parts by media type (`text/plain`, `text/html`).
	Bodies map[string]string
}

// List reads the mails kept in dir, oldest first.
func List(dir string) ([]Mail, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no outbox in %s: start `sillage up` first, or name its data directory with --data-dir", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the outbox: %w", err)
	}
	var mails []Mail
	for _, e := range entries {
		if e.IsDir() || filepath.Ext(e.Name()) != ".eml" {
			continue
		}
		m, err := Read(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		mails = append(mails, m)
	}
	sort.SliceStable(mails, func(i, j int) bool { return mails[i].Date.Before(mails[j].Date) })
	return mails, nil
}

// Read reads one mail.
func Read(path string) (Mail, error) {
	file, err := os.Open(path)
	if err != nil {
		return Mail{}, fmt.Errorf("reading a mail: %w", err)
	}
	defer file.Close() //nolint:errcheck // read only
	message, err := mail.ReadMessage(file)
	if err != nil {
		return Mail{}, fmt.Errorf("reading the mail %s: %w", path, err)
	}
	m := Mail{File: path, Header: message.Header, To: message.Header.Get("To"), Bodies: map[string]string{}}
	if m.Subject, err = new(mime.WordDecoder).DecodeHeader(message.Header.Get("Subject")); err != nil {
		m.Subject = message.Header.Get("Subject")
	}
	if date, err := message.Header.Date(); err == nil {
		m.Date = date
	}
	if err := readBody(m.Bodies, message.Header.Get("Content-Type"), message.Header.Get("Content-Transfer-Encoding"), message.Body, 0); err != nil {
		return Mail{}, fmt.Errorf("reading the mail %s: %w", path, err)
	}
	return m, nil
}

// maxNesting bounds multiparts within multiparts.
const maxNesting = 5

func readBody(into map[string]string, contentType, encoding string, body io.Reader, depth int) error {
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		media = "text/plain"
	}
	if !strings.HasPrefix(media, "multipart/") || depth >= maxNesting {
		return readPart(into, media, encoding, body)
	}
	parts := multipart.NewReader(body, params["boundary"])
	for {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading a part: %w", err)
		}
		if err := readBody(into, part.Header.Get("Content-Type"), part.Header.Get("Content-Transfer-Encoding"), part, depth+1); err != nil {
			return err
		}
	}
}

func readPart(into map[string]string, media, encoding string, body io.Reader) error {
	if strings.EqualFold(encoding, "quoted-printable") {
		body = quotedprintable.NewReader(body)
	}
	raw, err := io.ReadAll(io.LimitReader(body, maxMail))
	if err != nil {
		return fmt.Errorf("reading a part: %w", err)
	}
	into[media] += string(raw)
	return nil
}
