package graph

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sillage-cdp/sillage/services/identity/internal/policy"
	"github.com/sillage-cdp/sillage/services/identity/internal/profileid"
)

// Errors of requests that cannot be handled.
var (
	ErrNoAnchor = errors.New("link request: the anchor is not among the identifiers")
	errChain    = errors.New("a chain of merged profiles does not end")
)

// maxChain bounds how far a chain of merges is followed. Identifiers are moved with each merge, so that
// only an anchor that speaks of a profile long gone makes it more than one step.
const maxChain = 1 << 12

// linker handles one request.
type linker struct {
	st  State
	pol *policy.Policy
	req Request
	d   Decision
	// profiles are those loaded so far, dirty ones are written at the end.
	profiles map[string]*profile
	dirty    []*profile
	// noted is true once the anchor's entry holds this question.
	noted bool
	buf   []byte
}

// candidate is an identifier of the request.
type candidate struct {
	id   policy.Identifier
	rule policy.Rule
	// profile is nil if the identifier has none yet.
	profile *profile
}

// Link matches a request against the graph of its tenant.
func Link(st State, pol *policy.Policy, req Request) (Decision, error) {
	if !slices.Contains(req.Identifiers, req.Anchor) {
		return Decision{}, ErrNoAnchor
	}
	l := &linker{st: st, pol: pol, req: req, profiles: make(map[string]*profile, 4)}
	again := l.asked() // before candidates notes the question
	candidates, err := l.candidates()
	if err != nil {
		return Decision{}, err
	}
	if again {
		l.answerAgain(candidates)
	} else if err := l.match(candidates); err != nil {
		return Decision{}, err
	}
	for _, p := range l.dirty {
		l.buf = p.append(l.buf[:0])
		st.Put(profileName(p.id), l.buf)
	}
	return l.d, nil
}

// asked is true if this question of the anchor was the last that was answered.
func (l *linker) asked() bool {
	value, ok := l.st.Get(identifierName(l.req.Anchor))
	if !ok || l.req.MessageID == "" {
		return false
	}
	_, asked := cutOwner(value)
	return asked == l.req.MessageID
}

// match answers a new question.
func (l *linker) match(candidates []candidate) error {
	g := l.gather(candidates)
	survivor, err := l.settle(g)
	if err != nil {
		return err
	}
	if err := l.apply(g, survivor); err != nil {
		return err
	}
	if err := l.answer(g, survivor); err != nil {
		return err
	}
	if !l.noted {
		l.putOwner(l.req.Anchor, l.d.Answer.ProfileID, l.req.MessageID)
	}
	return nil
}

// answerAgain answers a question that was answered before, from what the graph knows now, and changes
// nothing: meanwhile other events may have moved what it speaks of, and the event is not news.
func (l *linker) answerAgain(candidates []candidate) {
	a := Assignment{Anchor: l.req.Anchor}
	event := candidates[0].profile // the event is the person's whom the best identifier names
	for _, c := range candidates {
		if event == nil {
			event = c.profile
		}
		if c.id == l.req.Anchor {
			a.ProfileID = c.profile.id
		}
	}
	if event.id != a.ProfileID {
		a.EventProfileID = event.id
	}
	for _, c := range candidates {
		switch {
		case c.id == l.req.Anchor:
		case c.profile == event:
			a.Linked = append(a.Linked, c.id)
		default:
			a.Refused = append(a.Refused, c.id)
		}
	}
	l.d.Answer = a
}

// candidates loads the identifiers of the request, in the order of what they are worth.
func (l *linker) candidates() ([]candidate, error) {
	ids := slices.Clone(l.req.Identifiers)
	slices.SortStableFunc(ids, l.pol.Compare)
	list := make([]candidate, 0, len(ids))
	for _, id := range ids {
		if slices.ContainsFunc(list, func(c candidate) bool { return c.id == id }) {
			continue
		}
		if id != l.req.Anchor && !l.pol.Usable(id) {
			continue
		}
		c := candidate{id: id, rule: l.pol.Rule(id.Namespace)}
		var err error
		if c.profile, err = l.profileOf(id); err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

// profileOf returns the profile of an identifier, recording the derived one where events may stand on it.
func (l *linker) profileOf(id policy.Identifier) (*profile, error) {
	if value, ok := l.st.Get(identifierName(id)); ok {
		owner, _ := cutOwner(value)
		return l.load(owner)
	}
	if !policy.DerivesAtOnce(id.Namespace) {
		return nil, nil
	}
	created := l.req.AtMs
	if id == l.req.Anchor {
		if l.req.AnchorProfile == "" {
			return nil, nil
		}
		created = cmp.Or(l.req.AnchorSinceMs, created)
	}
	return l.begin(id, created, ReasonDerived)
}

// begin makes the derived profile of an identifier that has none, with the identifier as its first member.
func (l *linker) begin(id policy.Identifier, createdMs int64, reason string) (*profile, error) {
	p, err := l.load(profileid.Derive(l.req.Tenant, id.Namespace, id.Value))
	if err != nil {
		return nil, err
	}
	if len(p.counts) == 0 {
		p.createdMs = createdMs
	}
	l.join(id, p, "", reason)
	return p, nil
}

// load returns a living profile, at the end of the chain of merges if id was merged; a new one, not yet
// written, if there is none.
func (l *linker) load(id string) (*profile, error) {
	for range maxChain {
		if p, ok := l.profiles[id]; ok && p.into == "" {
			return p, nil
		} else if ok {
			id = p.into
			continue
		}
		p := &profile{id: id}
		if value, ok := l.st.Get(profileName(id)); ok {
			var err error
			if p, err = parseProfile(id, value); err != nil {
				return nil, err
			}
		}
		l.profiles[id] = p
	}
	return nil, errChain
}

func (l *linker) touch(p *profile) {
	if !slices.Contains(l.dirty, p) {
		l.dirty = append(l.dirty, p)
	}
}

// join makes id a member of p.
func (l *linker) join(id policy.Identifier, p *profile, from, reason string) {
	asked := ""
	if id == l.req.Anchor {
		asked, l.noted = l.req.MessageID, true
	} else if value, ok := l.st.Get(identifierName(id)); ok {
		_, asked = cutOwner(value)
	}
	l.putOwner(id, p.id, asked)
	l.st.Put(memberPrefix(p.id)+id.String(), []byte{1})
	p.add(id.Namespace, 1)
	p.known = p.known || l.pol.Rule(id.Namespace).Known
	l.touch(p)
	l.d.Entries = append(l.d.Entries, Entry{Action: Linked, ProfileID: p.id, Identifier: id, From: from, Reason: reason})
}

func (l *linker) putOwner(id policy.Identifier, profile, asked string) {
	l.buf = appendOwner(l.buf[:0], profile, asked)
	l.st.Put(identifierName(id), l.buf)
}

// leave takes id out of p.
func (l *linker) leave(id policy.Identifier, p *profile) {
	l.st.Delete(memberPrefix(p.id) + id.String())
	p.add(id.Namespace, -1)
	l.touch(p)
}

// group is what the identifiers of a request come to: profiles to merge, identifiers to add to them,
// devices that change hands, and identifiers that were demoted.
type group struct {
	profiles []*profile
	fresh    []policy.Identifier
	moved    []candidate
	refused  []refusal
	counts   profile // only its counts
	known    bool
}

type refusal struct {
	candidate
	full string
}

// gather matches the candidates, in their order.
func (l *linker) gather(candidates []candidate) *group {
	g := &group{}
	for _, c := range candidates {
		if c.profile != nil && slices.Contains(g.profiles, c.profile) {
			g.known = g.known || c.rule.Known
			continue
		}
		whole := profile{counts: []count{{namespace: c.id.Namespace, n: 1}}}
		if c.profile != nil {
			whole.counts = c.profile.counts
		}
		full, fits := l.fits(g, whole.counts)
		switch {
		case fits && c.profile != nil:
			g.profiles = append(g.profiles, c.profile)
			g.take(whole.counts, c.rule.Known)
		case fits:
			g.fresh = append(g.fresh, c.id)
			g.take(whole.counts, c.rule.Known)
		case l.changesHands(g, c, full):
			g.moved = append(g.moved, c)
			g.take([]count{{namespace: c.id.Namespace, n: 1}}, false)
		default:
			g.refused = append(g.refused, refusal{candidate: c, full: full})
		}
	}
	return g
}

func (g *group) take(counts []count, known bool) {
	for _, c := range counts {
		g.counts.add(c.namespace, c.n)
	}
	g.known = g.known || known
}

// fits says whether more members stay within the limits, and else the namespace that is full, the one of
// highest priority if there are several. What is first gathered always fits: a limit that was lowered
// later parts nobody.
func (l *linker) fits(g *group, counts []count) (full string, ok bool) {
	if len(g.counts.counts) == 0 {
		return "", true
	}
	for _, c := range counts {
		if g.counts.count(c.namespace)+c.n <= l.pol.Rule(c.namespace).Limit {
			continue
		}
		if full == "" || l.pol.Compare(policy.Identifier{Namespace: c.namespace}, policy.Identifier{Namespace: full}) < 0 {
			full = c.namespace
		}
	}
	return full, full == ""
}

// changesHands is true for a device that a known person holds now and another known person held before.
func (l *linker) changesHands(g *group, c candidate, full string) bool {
	if c.rule.Known || !g.known || !l.pol.Rule(full).Known {
		return false
	}
	_, fits := l.fits(g, []count{{namespace: c.id.Namespace, n: 1}})
	return fits
}

// settle chooses the profile that goes on: known beats anonymous, then older beats newer, then the
// smaller id. If there is none, the first identifier begins one.
func (l *linker) settle(g *group) (*profile, error) {
	if len(g.profiles) == 0 {
		first := g.fresh[0] // the first candidate always fits
		g.fresh = g.fresh[1:]
		return l.begin(first, l.req.AtMs, ReasonEvent)
	}
	return slices.MinFunc(g.profiles, func(a, b *profile) int {
		if a.known != b.known {
			if a.known {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.createdMs, b.createdMs), strings.Compare(a.id, b.id))
	}), nil
}

// apply carries the match out.
func (l *linker) apply(g *group, survivor *profile) error {
	losers := slices.DeleteFunc(slices.Clone(g.profiles), func(p *profile) bool { return p == survivor })
	slices.SortFunc(losers, func(a, b *profile) int { return strings.Compare(a.id, b.id) })
	for _, loser := range losers {
		if err := l.merge(loser, survivor); err != nil {
			return err
		}
	}
	for _, id := range g.fresh {
		l.join(id, survivor, "", ReasonEvent)
	}
	for _, c := range g.moved {
		l.leave(c.id, c.profile)
		l.join(c.id, survivor, c.profile.id, ReasonSharedDevice)
		l.notice(c.id, survivor)
	}
	for _, r := range g.refused {
		l.d.Entries = append(l.d.Entries, Entry{
			Action: Refused, ProfileID: survivor.id, Identifier: r.id, Reason: ReasonLimit + r.full,
		})
	}
	return nil
}

// merge moves every member of loser to survivor and closes loser.
func (l *linker) merge(loser, survivor *profile) error {
	prefix := memberPrefix(loser.id)
	var members []policy.Identifier
	var failed error
	l.st.Range(prefix, func(name string, _ []byte) bool {
		id, ok := policy.Parse(strings.TrimPrefix(name, prefix))
		if !ok {
			failed = fmt.Errorf("decoding a member of the graph: %w", errForm)
			return false
		}
		members = append(members, id)
		return true
	})
	if failed != nil {
		return failed
	}
	for _, id := range members {
		l.leave(id, loser)
		l.join(id, survivor, loser.id, ReasonMerge)
		l.notice(id, survivor)
	}
	l.close(loser, survivor)
	return nil
}

func (l *linker) close(loser, survivor *profile) {
	survivor.known = survivor.known || loser.known
	loser.into, loser.counts = survivor.id, nil
	l.touch(loser)
	l.touch(survivor)
	l.d.Merges = append(l.d.Merges, Merge{From: loser.id, Into: survivor.id, ID: loser.id + "." + survivor.id})
	l.d.Entries = append(l.d.Entries, Entry{Action: Merged, ProfileID: loser.id, Into: survivor.id, Reason: ReasonEvent})
}

// notice tells the anchor id of its new profile, if it is not the one that asked.
func (l *linker) notice(id policy.Identifier, p *profile) {
	if id == l.req.Anchor {
		return
	}
	l.d.Notices = slices.DeleteFunc(l.d.Notices, func(a Assignment) bool { return a.Anchor == id })
	l.d.Notices = append(l.d.Notices, Assignment{Anchor: id, ProfileID: p.id})
}

// answer tells the anchor that asked. An anchor that was demoted keeps its own profile, or begins it,
// while the event goes to the profile of the others.
func (l *linker) answer(g *group, survivor *profile) error {
	a := Assignment{Anchor: l.req.Anchor, ProfileID: survivor.id}
	refused := func(id policy.Identifier) bool {
		return slices.ContainsFunc(g.refused, func(r refusal) bool { return r.id == id })
	}
	for _, id := range l.req.Identifiers {
		switch {
		case id == l.req.Anchor:
		case refused(id), !l.pol.Usable(id):
			a.Refused = append(a.Refused, id)
		default:
			a.Linked = append(a.Linked, id)
		}
	}
	for _, r := range g.refused {
		if r.id != l.req.Anchor {
			continue
		}
		own := r.profile
		if own == nil {
			var err error
			if own, err = l.begin(r.id, l.req.AtMs, ReasonDerived); err != nil {
				return err
			}
		}
		a.ProfileID, a.EventProfileID = own.id, survivor.id
	}
	l.d.Answer = a
	return nil
}
