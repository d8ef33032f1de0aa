package dlq

import (
	"context"
	"strings"
	"time"
)

// Summary is what is in a stage's dead letters.
type Summary struct {
	Stage string
	// Letters are all that the topic still has, Replayed those of them that were put back.
	Letters, Replayed int
	// Oldest and Newest bound when they were written; zero without letters.
	Oldest, Newest time.Time
	// Reasons count the letters that have not been put back, by class and reason without what it quotes.
	Reasons map[string]int
}

// maxReasons bounds the different reasons of a summary; all others count as one.
const maxReasons = 200

// Summarize counts the letters of a stage.
func (b *Box) Summarize(ctx context.Context, stage string) (Summary, error) {
	s := Summary{Stage: stage, Reasons: make(map[string]int)}
	err := b.Scan(ctx, stage, Filter{}, func(l *Letter) error {
		s.Letters++
		if s.Oldest.IsZero() || l.At.Before(s.Oldest) {
			s.Oldest = l.At
		}
		if l.At.After(s.Newest) {
			s.Newest = l.At
		}
		if l.Replayed {
			s.Replayed++
			return nil
		}
		reason := l.Class + ": " + Redact(l.Reason)
		if _, known := s.Reasons[reason]; !known && len(s.Reasons) >= maxReasons {
			reason = "others"
		}
		s.Reasons[reason]++
		return nil
	})
	return s, err
}

// Redact takes out of a reason what may come from the record: everything in quotes and every number. What
// is left tells faults of a kind apart from others, and groups them.
func Redact(reason string) string {
	var out strings.Builder
	quote, number := rune(0), false
	for _, c := range reason {
		digit := c >= '0' && c <= '9'
		switch {
		case quote != 0:
			if c == quote {
				out.WriteString("…")
				out.WriteRune(c)
				quote = 0
			}
			continue
		case c == '"' || c == '`':
			quote = c
			out.WriteRune(c)
		case digit && number:
		case digit:
			out.WriteByte('#')
		default:
			out.WriteRune(c)
		}
		number = digit
	}
	if quote != 0 {
		out.WriteString("…")
	}
	return out.String()
}
