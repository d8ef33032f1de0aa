package person

import (
	"cmp"
	"slices"

	journeyv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/journey/v1"
)

func (p *Person) segments() *journeyv1.Memberships {
	return load(p, nameSegments, func() *journeyv1.Memberships { return &journeyv1.Memberships{} })
}

// Membership is the person's membership of a segment; nil if there is none.
func (p *Person) Membership(segment string) *journeyv1.Membership {
	segments := p.segments().GetSegments()
	if at, found := findMembership(segments, segment); found {
		return segments[at]
	}
	return nil
}

// Memberships lists them, sorted by segment.
func (p *Person) Memberships() []*journeyv1.Membership { return p.segments().GetSegments() }

// PutMembership sets a membership. Beyond MaxMemberships it is not kept.
func (p *Person) PutMembership(m *journeyv1.Membership) {
	all := p.segments()
	at, found := findMembership(all.Segments, m.GetSegment())
	switch {
	case found:
		all.Segments[at] = m
	case len(all.Segments) < MaxMemberships:
		all.Segments = slices.Insert(all.Segments, at, m)
	}
	p.touch(nameSegments)
}

// DropMembership ends a membership.
func (p *Person) DropMembership(segment string) {
	all := p.segments()
	if at, found := findMembership(all.Segments, segment); found {
		all.Segments = slices.Delete(all.Segments, at, at+1)
		p.touch(nameSegments)
	}
}

func findMembership(segments []*journeyv1.Membership, segment string) (int, bool) {
	return slices.BinarySearchFunc(segments, segment, func(m *journeyv1.Membership, name string) int {
		return cmp.Compare(m.GetSegment(), name)
	})
}

// Scores is the latest scores, sorted by name.
func (p *Person) Scores() []*journeyv1.ScoreValue { return p.scores().GetScores() }

func (p *Person) scores() *journeyv1.ScoreValues {
	return load(p, nameScores, func() *journeyv1.ScoreValues { return &journeyv1.ScoreValues{} })
}

// HasScore says whether a score is known.
func (p *Person) HasScore(score string) bool {
	_, found := findScore(p.scores().GetScores(), score)
	return found
}

// PutScore sets a score. Beyond MaxScores it is not kept.
func (p *Person) PutScore(score string, value float64) {
	all := p.scores()
	at, found := findScore(all.Scores, score)
	switch {
	case found && all.Scores[at].GetValue() == value:
		return
	case found:
		all.Scores[at].Value = value
	case len(all.Scores) < MaxScores:
		all.Scores = slices.Insert(all.Scores, at, &journeyv1.ScoreValue{Score: score, Value: value})
	}
	p.touch(nameScores)
}

// DropScore forgets a score.
func (p *Person) DropScore(score string) {
	all := p.scores()
	if at, found := findScore(all.Scores, score); found {
		all.Scores = slices.Delete(all.Scores, at, at+1)
		p.touch(nameScores)
	}
}

func findScore(scores []*journeyv1.ScoreValue, score string) (int, bool) {
	return slices.BinarySearchFunc(scores, score, func(s *journeyv1.ScoreValue, name string) int {
		return cmp.Compare(s.GetScore(), name)
	})
}

// Merges is what is known of merges into this person.
func (p *Person) Merges() *journeyv1.MergeNotes {
	return load(p, nameMerges, func() *journeyv1.MergeNotes { return &journeyv1.MergeNotes{} })
}

// MergesChanged notes that Merges was changed, and keeps it bounded: the oldest go.
func (p *Person) MergesChanged() {
	notes := p.Merges()
	if over := len(notes.Merges) - MaxMerges; over > 0 {
		notes.Merges = notes.Merges[over:]
	}
	if over := len(notes.Flips) - MaxPostponed; over > 0 {
		notes.Flips = notes.Flips[over:]
	}
	p.touch(nameMerges)
}
