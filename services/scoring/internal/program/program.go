// Package program compiles the scores of one tenant.
//
// A score has an identity beside its name: a digest of everything that its state depends on (half-life
// and rules of a heat; filters and window of an rfm). Labels and thresholds are no part of it, so that
// changing them keeps what people earned. Filters are found by the event's name, so that a score which
// does not look at an event costs nothing. A score that cannot be compiled (which validated definitions
// never are) is left out with its error. A Program is immutable and safe for concurrent use.
package program

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/rule"
	"github.com/sillage-cdp/sillage/services/scoring/internal/heat"
	"github.com/sillage-cdp/sillage/services/scoring/internal/label"
	"github.com/sillage-cdp/sillage/services/scoring/internal/rfm"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

// Kind is how a score is computed.
type Kind uint8

// The kinds of scores.
const (
	Heat Kind = iota + 1
	Rfm
)

// Score is a compiled score.
type Score struct {
	Name    string
	Version int64
	// ID identifies everything that the state depends on.
	ID   uint64
	Kind Kind
	// Heat is set for a Heat, Rfm for an Rfm.
	Heat heat.Model
	Rfm  rfm.Model
}

// Hit is what an event means for a score.
type Hit struct {
	// Score is its position.
	Score int
	// Points are what it earns in a Heat.
	Points float64
	// Refund tells a refund from a purchase in an Rfm.
	Refund bool
}

// filter is a compiled event filter with what its events mean.
type filter struct {
	match *rule.Filter
	hit   Hit
}

// Program is the compiled form of all scores of a tenant.
type Program struct {
	// Revision identifies everything that a value or label depends on, versions not included.
	Revision uint64
	// Scores are in order of name.
	Scores []Score
	// Broken holds the error of each score that could not be compiled, by name.
	Broken map[string]error

	byEvent map[string][]filter
	always  []filter
}

// Match appends to hits what an event means, in order of scores.
func (p *Program) Match(hits []Hit, name string, ev *rule.Event) []Hit {
	for _, list := range [2][]filter{p.byEvent[name], p.always} {
		for i := range list {
			if list[i].match.MatchEvent(ev) {
				hits = append(hits, list[i].hit)
			}
		}
	}
	slices.SortFunc(hits, func(a, b Hit) int { return cmp.Compare(a.Score, b.Score) })
	return hits
}

// Find is the position of a score by name.
func (p *Program) Find(name string) (int, bool) {
	return slices.BinarySearchFunc(p.Scores, name, func(s Score, name string) int { return strings.Compare(s.Name, name) })
}

// Compile compiles the scores of one tenant. Definitions of other kinds are passed over.
func Compile(defs []*definitionv1.Definition) *Program {
	p := &Program{Broken: map[string]error{}, byEvent: map[string][]filter{}}
	sorted := slices.Clone(defs)
	slices.SortStableFunc(sorted, func(a, b *definitionv1.Definition) int { return cmp.Compare(a.GetName(), b.GetName()) })
	revision := newDigest()
	for _, def := range sorted {
		if def.GetScore() == nil {
			continue
		}
		score, filters, err := compile(def, len(p.Scores))
		if err != nil {
			p.Broken[def.GetName()] = fmt.Errorf("score %q: %w", def.GetName(), err)
			continue
		}
		p.Scores = append(p.Scores, score)
		for _, f := range filters {
			if name := f.match.EventName(); name != "" {
				p.byEvent[name] = append(p.byEvent[name], f)
			} else {
				p.always = append(p.always, f)
			}
		}
		revision.text(score.Name)
		revision.number(score.ID)
		thresholds(revision, &score)
	}
	p.Revision = revision.sum()
	return p
}

func compile(def *definitionv1.Definition, at int) (Score, []filter, error) {
	score := Score{Name: def.GetName(), Version: def.GetVersion()}
	switch spec := def.GetScore(); {
	case spec.GetHeat() != nil:
		return compileHeat(score, spec.GetHeat(), at)
	case spec.GetRfm() != nil:
		return compileRfm(score, spec.GetRfm(), at)
	default:
		return score, nil, errors.New("the score is empty (set heat or rfm)")
	}
}

func compileHeat(score Score, def *definitionv1.Heat, at int) (Score, []filter, error) {
	halfLife, err := millis("half_life", def.GetHalfLife())
	if err != nil {
		return score, nil, fmt.Errorf("heat: %w", err)
	}
	id := newDigest()
	id.text("heat")
	id.number(uint64(halfLife)) // not negative
	var filters []filter
	for i, earns := range def.GetRules() {
		points := earns.GetPoints()
		if math.IsNaN(points) || math.IsInf(points, 0) {
			return score, nil, fmt.Errorf("heat.rules[%d].points: must be a finite number", i)
		}
		match, err := compileFilter(id, earns.GetFilter())
		if err != nil {
			return score, nil, fmt.Errorf("heat.rules[%d].filter: %w", i, err)
		}
		id.number(math.Float64bits(points))
		filters = append(filters, filter{match: match, hit: Hit{Score: at, Points: points}})
	}
	score.Kind, score.ID = Heat, id.sum()
	score.Heat = heat.Model{HalfLife: halfLife, Labels: label.New(def.GetLabels())}
	return score, filters, nil
}

func compileRfm(score Score, def *definitionv1.Rfm, at int) (Score, []filter, error) {
	model := rfm.Model{
		Frequency: slices.Sorted(slices.Values(def.GetFrequency())),
		Labels:    label.New(def.GetLabels()),
	}
	if def.GetWithin() != "" {
		var err error
		if model.Within, err = millis("within", def.GetWithin()); err != nil {
			return score, nil, fmt.Errorf("rfm: %w", err)
		}
	}
	for _, days := range slices.Sorted(slices.Values(def.GetRecencyDays())) {
		model.Recency = append(model.Recency, scaled(days, rfm.Day))
	}
	for _, amount := range slices.Sorted(slices.Values(def.GetMonetary())) {
		model.Monetary = append(model.Monetary, scaled(amount, 1e6))
	}
	id := newDigest()
	id.text("rfm")
	id.number(uint64(model.Within)) // not negative
	purchase, err := compileFilter(id, cmp.Or(def.GetPurchase(), &definitionv1.EventFilter{}))
	if err != nil {
		return score, nil, fmt.Errorf("rfm.purchase: %w", err)
	}
	filters := []filter{{match: purchase, hit: Hit{Score: at}}}
	if refund := def.GetRefund(); refund.GetEvent() != "" || refund.GetType() != "" || refund.GetWhere() != "" {
		match, err := compileFilter(id, refund)
		if err != nil {
			return score, nil, fmt.Errorf("rfm.refund: %w", err)
		}
		filters = append(filters, filter{match: match, hit: Hit{Score: at, Refund: true}})
	}
	score.Kind, score.ID, score.Rfm = Rfm, id.sum(), model
	return score, filters, nil
}

// compileFilter compiles a filter and adds it to the identity of its score.
func compileFilter(id *digest, def *definitionv1.EventFilter) (*rule.Filter, error) {
	if def == nil {
		def = &definitionv1.EventFilter{}
	}
	id.text(cmp.Or(def.GetType(), "track"))
	id.text(def.GetEvent())
	id.text(strings.TrimSpace(def.GetWhere()))
	return rule.CompileFilter(def)
}

// scaled is a threshold in integer units, rounded to the nearest and kept within bounds.
func scaled(value, unit float64) int64 {
	v := math.Round(value * unit)
	switch {
	case math.IsNaN(v) || v > rfm.Forever:
		return rfm.Forever
	case v < rfm.Never:
		return rfm.Never
	default:
		return int64(v)
	}
}

// thresholds adds what a label or mark depends on to the revision.
func thresholds(revision *digest, score *Score) {
	labels := score.Heat.Labels
	if score.Kind == Rfm {
		labels = score.Rfm.Labels
		for _, v := range slices.Concat(score.Rfm.Recency, []int64{rfm.Forever}, score.Rfm.Monetary, []int64{rfm.Forever}) {
			revision.number(uint64(v)) // only a digest
		}
		for _, v := range score.Rfm.Frequency {
			revision.number(math.Float64bits(v))
		}
	}
	for _, l := range labels {
		revision.number(math.Float64bits(l.From))
		revision.text(l.Name)
	}
}

func millis(field, text string) (int64, error) {
	d, err := definition.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", field, err)
	}
	if d <= 0 {
		return 0, fmt.Errorf("%s: must be longer than nothing", field)
	}
	return d.Milliseconds(), nil
}

// digest collects what makes up an identity, each part with its length.
type digest struct{ buf []byte }

func newDigest() *digest { return &digest{} }

func (d *digest) text(s string) {
	d.number(uint64(len(s)))
	d.buf = append(d.buf, s...)
}

func (d *digest) number(n uint64) { d.buf = binary.BigEndian.AppendUint64(d.buf, n) }

func (d *digest) sum() uint64 {
	sum := sha256.Sum256(d.buf)
	return binary.BigEndian.Uint64(sum[:8])
}
