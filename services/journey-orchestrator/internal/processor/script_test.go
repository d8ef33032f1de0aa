package processor_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/definition"
	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	journeyv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/journey/v1"
	segmentv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/segment/v1"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts under testdata give as what they should give")

// TestScripts runs every script under testdata. A script is blocks of commands, a line `----`, what they
// give, and an empty line. Lines that begin with # are for the reader. The commands:
//
//	define                          the rest of the block is definitions in YAML
//	drop KIND NAME                  a definition is deleted
//	at TIME                         the clock moves to an RFC 3339 time
//	advance DURATION                the clock moves on
//	event PROFILE NAME [JSON] [traits=JSON] [consent=PURPOSE:BOOL] [bot] [historical] [internal] [page] [id=ID]
//	enter|leave PROFILE SEGMENT [historical] [merge=ID]
//	score PROFILE SCORE VALUE
//	merge PROFILE into PROFILE
//	announce|hand-over PROFILE into PROFILE ID     the two halves of a merge
//
// What they give is one line for each journey step (`*`), and for each send (`>`).
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			got := runScript(t, string(text))
			if *rewrite {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
				return
			}
			require.Equal(t, string(text), got)
		})
	}
}

// runScript gives the script back with what its commands really gave.
func runScript(t *testing.T, text string) string {
	w := newWorld(t, time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC), 3)
	var out strings.Builder
	lines := strings.Split(text, "\n")
	var block []string
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if line != "----" {
			if len(block) > 0 || strings.TrimSpace(line) != "" {
				block = append(block, line)
			}
			continue
		}
		for i+1 < len(lines) && lines[i+1] != "" {
			i++ // what was expected
		}
		if out.Len() > 0 {
			out.WriteString("\n")
		}
		for _, l := range block {
			out.WriteString(l + "\n")
		}
		out.WriteString("----\n")
		w.commands(block)
		out.WriteString(w.report())
		block = nil
	}
	require.Empty(t, strings.TrimSpace(strings.Join(block, "")), "the last block has no ----")
	require.Empty(t, w.driver.DeadLetters())
	return out.String()
}

func (w *world) commands(block []string) {
	for i, line := range block {
		if strings.HasPrefix(line, "#") || line == "" {
			continue
		}
		if line == "define" {
			w.define(strings.Join(block[i+1:], "\n"))
			return
		}
		w.command(words(line))
	}
}

func (w *world) command(args []string) {
	switch args[0] {
	case "drop":
		w.drop(args[1], args[2])
	case "at":
		at, err := time.Parse(time.RFC3339, args[1])
		require.NoError(w.t, err)
		require.NoError(w.t, w.driver.Advance(at))
	case "advance":
		d, err := definition.ParseDuration(args[1])
		require.NoError(w.t, err)
		w.advance(d)
	case "event":
		w.event(args[1], parseEvent(w.t, args[2:]))
	case "enter", "leave":
		w.flip(args[1], args[2], args[0] == "enter", func(m *segmentv1.MembershipChanged) {
			for _, option := range args[3:] {
				m.Historical = m.Historical || option == "historical"
				if id, ok := strings.CutPrefix(option, "merge="); ok {
					m.Cause, m.CauseId = segmentv1.Cause_CAUSE_MERGE, id
				}
			}
		})
	case "score":
		value, err := strconv.ParseFloat(args[3], 64)
		require.NoError(w.t, err)
		w.score(args[1], args[2], value)
	case "merge":
		w.merge(args[1], args[3])
	case "announce":
		w.announce(args[1], args[3], args[4])
	case "hand-over":
		w.mergeInto(args[1], args[3], args[4])
	default:
		require.Fail(w.t, "unknown command", args[0])
	}
}

func parseEvent(t require.TestingT, args []string) *eventv1.Event {
	ev := &eventv1.Event{Name: args[0]}
	for _, option := range args[1:] {
		key, value, _ := strings.Cut(option, "=")
		switch {
		case strings.HasPrefix(option, "{"):
			ev.Properties = []byte(option)
			require.True(t, json.Valid(ev.Properties), option)
		case key == "traits":
			ev.Traits = []byte(value)
			require.True(t, json.Valid(ev.Traits), option)
		case key == "consent":
			purpose, granted, _ := strings.Cut(value, ":")
			ev.Consent = &eventv1.Consent{Purposes: map[string]bool{purpose: granted == "true"}}
		case key == "id":
			ev.MessageId = value
		case key == "historical":
			ev.Historical = true
		case key == "bot":
			ev.Bot = true
		case key == "internal":
			ev.Internal = true
		case key == "page":
			ev.Type = eventv1.EventType_EVENT_TYPE_PAGE
		default:
			require.Fail(t, "unknown option", option)
		}
	}
	return ev
}

// words splits a line at spaces outside of quotes and braces; quotes around a whole word fall off.
func words(line string) []string {
	var out []string
	var word strings.Builder
	depth, quoted := 0, false
	for _, r := range line {
		switch {
		case r == '"' && depth == 0:
			quoted = !quoted
			continue
		case r == '{':
			depth++
		case r == '}':
			depth--
		case r == ' ' && depth == 0 && !quoted:
			if word.Len() > 0 {
				out = append(out, word.String())
			}
			word.Reset()
			continue
		}
		word.WriteRune(r)
	}
	if word.Len() > 0 {
		out = append(out, word.String())
	}
	return out
}

// report writes what was emitted since the last one.
func (w *world) report() string {
	type entry struct {
		at   int64
		text string
	}
	var entries []entry
	for _, s := range w.steps() {
		entries = append(entries, entry{s.GetAtMs(), formatStep(s)})
	}
	for _, s := range w.sends() {
		entries = append(entries, entry{s.GetDecidedAtMs(), formatSend(s)})
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return int(a.at - b.at) })
	var out strings.Builder
	for _, e := range entries {
		out.WriteString(time.UnixMilli(e.at).UTC().Format("Mon 02 15:04:05 ") + e.text + "\n")
	}
	return out.String()
}

func formatStep(s *journeyv1.JourneyStep) string {
	out := fmt.Sprintf("* %s %s v%d", s.GetProfileId(), s.GetJourney(), s.GetVersion())
	if s.GetSequence() > 0 {
		out += fmt.Sprintf(" #%d", s.GetSequence())
	}
	if s.GetStep() != "" {
		out += " [" + s.GetStep() + "]"
	}
	out += " " + strings.ToLower(strings.TrimPrefix(s.GetAction().String(), "STEP_ACTION_"))
	if s.GetBranch() != "" {
		out += " -> " + s.GetBranch()
	}
	if s.GetReason() != "" {
		out += " (" + s.GetReason() + ")"
	}
	return out
}

func formatSend(s *deliveryv1.Send) string {
	out := fmt.Sprintf("> %s %s %s by %s, %s", s.GetProfileId(), strings.TrimPrefix(s.GetDecision().String(), "DECISION_"), s.GetTemplate(), s.GetChannel(), s.GetCategory())
	if s.GetTransactional() {
		out += ", transactional"
	}
	if s.GetReason() != "" {
		out += " (" + s.GetReason() + ")"
	}
	if s.GetArm() != "" {
		out += " arm=" + s.GetArm()
	}
	if len(s.GetTraits()) > 0 {
		out += fmt.Sprintf(" traits=%s trigger=%s", s.GetTraits(), s.GetTrigger())
	}
	return out
}
