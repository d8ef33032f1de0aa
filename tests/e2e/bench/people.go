package bench

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// people are visitors of a bank as its site sends them: most events are of anonymous visitors, new and
// returning; some log in, and then the visit belongs to a person; some begin an application for a loan,
// and a few finish it. One goroutine uses it; the same seed plays the same.
type people struct {
	rng    *rand.Rand
	prefix string
	known  []string // user ids that have logged in, by visitor
	sent   int
}

func newPeople(seed uint64, prefix string) *people {
	return &people{rng: rand.New(rand.NewPCG(seed, 7)), prefix: prefix}
}

const device = `"context":{"page":{"path":"/loans/home","referrer":"https://www.google.com/","title":"Home loans","url":"https://bank.example/loans/home?utm_source=newsletter"},"userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36","locale":"fr-FR","library":{"name":"analytics.js","version":"next-1.84.3"},"timezone":"Europe/Paris"}`

// visit appends the calls of one visit, one to nine of them, separated by commas.
func (p *people) visit(b *strings.Builder) (calls int) {
	visitor := fmt.Sprintf("%s-v%d", p.prefix, len(p.known))
	user := ""
	if returning := len(p.known) > 0 && p.rng.IntN(100) < 60; returning {
		i := p.rng.IntN(len(p.known))
		visitor, user = fmt.Sprintf("%s-v%d", p.prefix, i), p.known[i]
	} else {
		p.known = append(p.known, "")
	}
	call := func(kind, rest string) {
		if calls > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(b, `{"type":"%s","anonymousId":"%s","messageId":"%s-m%d",`, kind, visitor, p.prefix, p.sent)
		if user != "" {
			fmt.Fprintf(b, `"userId":"%s",`, user)
		}
		b.WriteString(rest)
		b.WriteString(device)
		b.WriteByte('}')
		p.sent++
		calls++
	}
	call("page", `"name":"Loans","properties":{"path":"/loans/home","title":"Home loans","url":"https://bank.example/loans/home"},`)
	for range p.rng.IntN(4) {
		call("track", fmt.Sprintf(`"event":"Product Viewed","properties":{"product_id":"loan-%d","category":"Loans","name":"Home loan","price":%d},`, p.rng.IntN(20), 1000*p.rng.IntN(300)))
	}
	if user == "" && p.rng.IntN(100) < 15 { // logs in
		user = fmt.Sprintf("%s-u%d", p.prefix, p.rng.IntN(len(p.known)))
		p.remember(visitor, user)
		call("identify", fmt.Sprintf(`"traits":{"email":"%s@example.org","firstName":"Ada","city":"Lyon"},`, user))
	}
	if p.rng.IntN(100) < 10 {
		call("track", `"event":"Loan Application Started","properties":{"product_id":"loan-1","amount":180000},`)
		if p.rng.IntN(100) < 40 {
			call("track", `"event":"Loan Application Submitted","properties":{"product_id":"loan-1","amount":180000},`)
		}
	}
	return calls
}

func (p *people) remember(visitor, user string) {
	var i int
	if _, err := fmt.Sscanf(visitor[len(p.prefix):], "-v%d", &i); err == nil {
		p.known[i] = user
	}
}

// batch is the body of a batch of at least the given number of calls, and how many it has.
func (p *people) batch(atLeast int) (body []byte, calls int) {
	var b strings.Builder
	b.WriteString(`{"batch":[`)
	for calls < atLeast {
		if calls > 0 {
			b.WriteByte(',')
		}
		calls += p.visit(&b)
	}
	b.WriteString(`]}`)
	return []byte(b.String()), calls
}
