package scenarios

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/sillage-cdp/sillage/tests/e2e/stack"
)

// oracle knows what must be true after everything that was sent: each event once, by its serial number
// `properties.n`, and who is one person, by a union of the identifiers that ever stood in one event.
type oracle struct {
	parent map[string]string // union-find over `namespace:value`
	owner  map[int]string    // an identifier of the person of each event
	// mails are those that must be in the outbox, as `address subject`.
	mails []string
}

func newOracle() *oracle { return &oracle{parent: map[string]string{}, owner: map[int]string{}} }

func (o *oracle) find(id string) string {
	for {
		up, ok := o.parent[id]
		if !ok {
			o.parent[id] = id
			return id
		}
		if up == id {
			return id
		}
		id = up
	}
}

// note adds an event; the same event twice is the same as once.
func (o *oracle) note(ev stack.Event) {
	var ids []string
	add := func(namespace string, value any) {
		if text, ok := value.(string); ok {
			ids = append(ids, namespace+":"+text)
		}
	}
	add("anonymous_id", ev["anonymousId"])
	add("user_id", ev["userId"])
	if traits, ok := ev["traits"].(stack.Event); ok {
		add("email", traits["email"])
	}
	for _, id := range ids[1:] {
		o.parent[o.find(id)] = o.find(ids[0])
	}
	o.owner[serial(ev)] = o.find(ids[0])
}

func serial(ev stack.Event) int { return ev["properties"].(stack.Event)["n"].(int) }

// people are the identifiers of each person, sorted, by their root.
func (o *oracle) people() map[string][]string {
	people := map[string][]string{}
	for id := range o.parent {
		root := o.find(id)
		people[root] = append(people[root], id)
	}
	for _, ids := range people {
		slices.Sort(ids)
	}
	return people
}

// history is a file to import, and what is in it.
type history struct {
	lines []string
	// refused are the lines, from 1, that must be refused; bad of them never reach ingest.
	refused map[int]string
}

// writer makes events with serial numbers.
type writer struct {
	rng  *rand.Rand
	next int
	base time.Time
}

// event completes an event with a serial number and, but for one in ten of an import, a message id.
func (w *writer) event(ev stack.Event) stack.Event {
	w.next++
	ev["properties"] = stack.Event{"n": w.next}
	if w.rng.IntN(10) > 0 {
		ev["messageId"] = fmt.Sprintf("m-%d", w.next)
	}
	return ev
}

func (w *writer) past(ev stack.Event) stack.Event {
	ev["timestamp"] = w.base.Add(time.Duration(w.rng.IntN(1000)) * time.Hour).Format(time.RFC3339)
	return w.event(ev)
}

// person makes the events of one person: some devices, each with a few views and, for those who are
// known, a sign-in or an e-mail address that links it to the others.
func (w *writer) person(i int) []stack.Event {
	var events []stack.Event
	known := w.rng.IntN(10) < 7
	devices := 1
	if known {
		devices += w.rng.IntN(3)
	}
	mail, user := fmt.Sprintf("h%d@crash.example", i), fmt.Sprintf("hu-%d", i)
	for d := range devices {
		anonymous := fmt.Sprintf("h-%d-%d", i, d)
		for range 1 + w.rng.IntN(4) {
			events = append(events, w.past(stack.Event{"type": "track", "event": "Product Viewed", "anonymousId": anonymous}))
		}
		if !known {
			continue
		}
		link := stack.Event{"type": "identify", "anonymousId": anonymous, "traits": stack.Event{"email": mail}}
		if d == 0 || w.rng.IntN(3) > 0 {
			link["userId"] = user
		}
		events = append(events, w.past(link))
	}
	if known {
		for range w.rng.IntN(4) {
			events = append(events, w.past(stack.Event{"type": "track", "event": "Product Viewed", "userId": user}))
		}
		// History moves no journey.
		events = append(events, w.past(stack.Event{"type": "track", "event": "Guide Requested", "userId": user}))
	}
	return events
}

// badLines are lines that must be refused, with the code.
var badLines = []struct{ line, code string }{
	{`{"type":"track","event":"Broken"`, "bad_json"},
	{`{"type":"track","event":"No time","userId":"bad-1"}`, "no_timestamp"},
	{`{"type":"track","userId":"bad-2","timestamp":"2025-03-01T00:00:00Z"}`, "no_event"},
	{`{"type":"track","event":"Nobody","timestamp":"2025-03-01T00:00:00Z"}`, "no_user_anon_id"},
}

// newHistory generates at least so many lines, in no order, one in twenty twice, a few of them bad.
func (w *writer) newHistory(o *oracle, size int) history {
	var lines []string
	for i := 0; len(lines) < size; i++ {
		for _, ev := range w.person(i) {
			o.note(ev)
			line := encode(ev)
			lines = append(lines, line)
			if w.rng.IntN(20) == 0 {
				lines = append(lines, line)
			}
		}
		if i%50 == 0 {
			lines = append(lines, badLines[(i/50)%len(badLines)].line)
		}
	}
	w.rng.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	h := history{lines: lines, refused: map[int]string{}}
	for i, line := range lines {
		for _, bad := range badLines {
			if line == bad.line {
				h.refused[i+1] = bad.code
			}
		}
	}
	return h
}

func encode(ev stack.Event) string {
	raw, err := json.Marshal(ev)
	if err != nil {
		panic(err) // maps of strings and numbers always encode
	}
	return string(bytes.TrimSpace(raw))
}

// part is the i-th of n parts of the file.
func (h *history) part(i, n int) string {
	from, to := len(h.lines)*i/n, len(h.lines)*(i+1)/n
	return strings.Join(h.lines[from:to], "\n") + "\n"
}

// good is the number of lines that must be taken.
func (h *history) good() int { return len(h.lines) - len(h.refused) }
