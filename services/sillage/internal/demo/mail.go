package demo

import (
	"context"
	"errors"
	"html"
	"io/fs"
	"net/http"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/sillage-cdp/sillage/services/sillage/internal/demo/bank"
	"github.com/sillage-cdp/sillage/services/sillage/internal/outbox"
)

var (
	clickLink = regexp.MustCompile(`href="([^"]*/t/c/[^"]+)"`)
	pixelLink = regexp.MustCompile(`src="([^"]*/t/o/[^"]+)"`)
)

// readMails lets the people react to mails that they have not read.
func (p *player) readMails(_ context.Context, passed time.Duration) error {
	entries, err := os.ReadDir(p.demo.OutboxDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if p.seen[e.Name()] || filepath.Ext(e.Name()) != ".eml" {
			continue
		}
		p.seen[e.Name()] = true
		m, err := outbox.Read(filepath.Join(p.demo.OutboxDir, e.Name()))
		if err != nil {
			return err
		}
		p.mails++
		p.react(m, strings.TrimSuffix(e.Name(), ".eml"), passed)
	}
	return nil
}

// react plans what a person does with a mail. Guides are opened and read; only the mail about the
// application is clicked to come back.
func (p *player) react(m outbox.Mail, name string, passed time.Duration) {
	to, err := mail.ParseAddress(m.To)
	if err != nil {
		return
	}
	number, ok := bank.Number(to.Address)
	if !ok || number >= len(p.people) {
		return
	}
	person := p.people[number]
	if person.OpensAfter == 0 {
		return
	}
	body := m.Bodies["text/html"]
	p.follow(passed+person.OpensAfter, pixelLink, body, http.StatusOK, &p.opened)
	if !strings.Contains(m.Subject, "application") {
		return
	}
	if person.Unsubscribes {
		link := strings.Trim(m.Header.Get("List-Unsubscribe"), "<> ")
		p.at(passed+person.OpensAfter+time.Minute, func(ctx context.Context, _ time.Time) error {
			p.unsubscribed++
			return p.visit(ctx, http.MethodPost, link, http.StatusOK)
		})
	}
	if person.ClicksAfter == 0 {
		return
	}
	clicks := passed + person.OpensAfter + person.ClicksAfter
	p.follow(clicks, clickLink, body, http.StatusFound, &p.clicked)
	if person.ReturnsAfter > 0 {
		p.later(clicks, bank.Returned(person, name, person.ReturnsAfter))
	}
}

// follow plans a visit to the first link of a body that matches.
func (p *player) follow(after time.Duration, link *regexp.Regexp, body string, want int, count *int) {
	found := link.FindStringSubmatch(body)
	if found == nil {
		return
	}
	target := html.UnescapeString(found[1])
	p.at(after, func(ctx context.Context, _ time.Time) error {
		*count++
		return p.visit(ctx, http.MethodGet, target, want)
	})
}
