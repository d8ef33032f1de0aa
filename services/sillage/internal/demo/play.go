package demo

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/sillage-cdp/sillage/services/sillage/internal/demo/bank"
)

// step is something to do at a moment of the play.
type step struct {
	after time.Duration
	order int // keeps steps of the same moment in the order in which they were planned
	do    func(ctx context.Context, now time.Time) error
}

type agenda []step

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].after < a[j].after || a[i].after == a[j].after && a[i].order < a[j].order
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(step)) } //nolint:errcheck // only steps are pushed
func (a *agenda) Pop() any {
	old := *a
	last := old[len(old)-1]
	*a = old[:len(old)-1]
	return last
}

// player carries out the agenda on the stack's time. One goroutine owns it.
type player struct {
	demo   *Demo
	people []bank.Person
	begun  time.Time
	agenda agenda
	seen   map[string]bool // mails that were read

	planned                                           int
	sent, mails, opened, clicked, unsubscribed, tasks int
}

func newPlayer(d *Demo, people []bank.Person) *player {
	p := &player{demo: d, people: people, seen: map[string]bool{}}
	for _, a := range bank.Visits(people) {
		p.plan(a)
	}
	return p
}

func (p *player) at(after time.Duration, do func(ctx context.Context, now time.Time) error) {
	p.planned++
	heap.Push(&p.agenda, step{after: after, order: p.planned, do: do})
}

func (p *player) plan(a bank.Action) {
	p.at(a.After, func(ctx context.Context, now time.Time) error { return p.call(ctx, a.Call, now) })
}

// lookEvery is how often, by the wall, the outbox and the call centre are looked at.
const lookEvery = 150 * time.Millisecond

// run plays until the time is over.
func (p *player) run(ctx context.Context, show func(passed time.Duration)) error {
	p.begun = p.demo.Clock.Now()
	looked := time.Time{}
	for {
		now := p.demo.Clock.Now()
		passed := now.Sub(p.begun)
		show(min(passed, playTime))
		if wall := time.Now(); wall.Sub(looked) >= lookEvery {
			looked = wall
			if err := p.look(ctx, passed); err != nil {
				return err
			}
		}
		if len(p.agenda) > 0 && p.agenda[0].after <= passed {
			next, ok := heap.Pop(&p.agenda).(step)
			if !ok {
				return errors.New("the agenda holds something else than steps")
			}
			if err := next.do(ctx, now); err != nil {
				return err
			}
			continue
		}
		if passed >= playTime {
			return nil
		}
		if err := p.wait(ctx, passed); err != nil {
			return err
		}
	}
}

// wait sleeps until the next step or the next look.
func (p *player) wait(ctx context.Context, passed time.Duration) error {
	wall := lookEvery
	if len(p.agenda) > 0 {
		wall = min(wall, p.demo.Clock.Wall(p.agenda[0].after-passed))
	}
	timer := time.NewTimer(max(wall, time.Millisecond))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// look reads new mails and takes tasks of the call centre.
func (p *player) look(ctx context.Context, passed time.Duration) error {
	for {
		select {
		case task := <-p.demo.Calls:
			p.tasks++
			if n, ok := bank.Number(task.Email); ok && n < len(p.people) {
				p.later(passed, bank.Called(p.people[n], task.ID))
			}
			continue
		default:
		}
		return p.readMails(ctx, passed)
	}
}

func (p *player) later(passed time.Duration, actions []bank.Action) {
	for _, a := range actions {
		a.After += passed
		p.plan(a)
	}
}

// call sends one call of the tracking API.
func (p *player) call(ctx context.Context, c bank.Call, now time.Time) error {
	body, err := c.At(now)
	if err != nil {
		return fmt.Errorf("encoding a call: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.demo.Ingest+"/v1/"+c.Type, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("making a call: %w", err)
	}
	req.SetBasicAuth(WriteKey, "")
	p.sent++
	return p.do(req, http.StatusOK)
}

// browser is what the people of the bank use.
const browser = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"

func (p *player) visit(ctx context.Context, method, link string, want int) error {
	req, err := http.NewRequestWithContext(ctx, method, link, nil)
	if err != nil {
		return fmt.Errorf("following a link: %w", err)
	}
	req.Header.Set("User-Agent", browser)
	return p.do(req, want)
}

func (p *player) do(req *http.Request, want int) error {
	resp, err := p.demo.client.Do(req)
	if err != nil {
		return fmt.Errorf("calling %s: %w", req.URL.Path, err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return fmt.Errorf("calling %s: %w", req.URL.Path, err)
	}
	if resp.StatusCode != want {
		return fmt.Errorf("calling %s: %s: %s", req.URL.Path, resp.Status, text)
	}
	return nil
}
