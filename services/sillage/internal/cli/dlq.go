package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/sillage-cdp/sillage/pkg/stream/dlq"
	"github.com/sillage-cdp/sillage/pkg/topics"
	"github.com/sillage-cdp/sillage/services/sillage/internal/progress"
)

// dlqCmd is `sillage dlq`.
type dlqCmd struct {
	Ls     dlqLsCmd     `cmd:"" help:"List the stages that have dead letters: how many, since when, and why."`
	Show   dlqShowCmd   `cmd:"" help:"Print the dead letters of a stage, without the personal data in them."`
	Replay dlqReplayCmd `cmd:"" help:"Put dead letters back: the stage that gave up on them, and it alone, handles each once more."`
}

// Help is what `sillage dlq --help` adds.
func (dlqCmd) Help() string {
	return `A record or timer that a stage cannot handle goes to the topic <stage>.dlq with the reason, and the stage goes on. Stages: identity-resolver, identity-graph, segmentation, scoring, journeys, outcomes.

What is no stage keeps no dead letters: analytics puts what it cannot read into a table (sillage sql 'SELECT * FROM unreadable_records'), decision and the delivery of sends count it in their metrics.`
}

// letterBox is the Kafka that a command looks for dead letters in.
type letterBox struct{ brokers }

// open makes sure that Kafka answers, so that a wrong address is said at once.
func (b *letterBox) open(ctx context.Context) (*dlq.Box, error) {
	cfg, err := b.use()
	if err != nil {
		return nil, err
	}
	logger := slog.New(slog.DiscardHandler)
	ping, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := cfg.Ping(ping, logger); err != nil {
		return nil, fmt.Errorf("nothing answers at %s: start `sillage up`, or name the brokers with --kafka (%w)", strings.Join(cfg.Brokers, ","), err)
	}
	return dlq.Open(cfg.Options(logger)...)
}

// letterFilter chooses dead letters.
type letterFilter struct {
	Tenant string   `help:"Only of this tenant."`
	Reason string   `help:"Only those with this text in the reason."`
	Class  string   `help:"Only of this class." enum:",error,panic,misuse,merge,size,internal,replay" default:""`
	Since  string   `help:"Only those since: a time (2026-11-21T20:00:00Z) or so long ago (24h)."`
	Place  []string `help:"Only these, as partition/offset of the dead-letter topic, as show prints it." placeholder:"P/O"`
}

func (f *letterFilter) empty() bool {
	return f.Tenant == "" && f.Reason == "" && f.Class == "" && f.Since == "" && len(f.Place) == 0
}

// filter is f as the library takes it. now is the time that Since counts back from.
func (f *letterFilter) filter(now time.Time) (dlq.Filter, error) {
	filter := dlq.Filter{Reason: f.Reason, Class: f.Class, Places: f.Place}
	if f.Tenant != "" {
		filter.KeyPrefix = topics.Key(f.Tenant, "")
	}
	for _, place := range f.Place {
		var partition, offset int64
		if n, err := fmt.Sscanf(place, "%d/%d", &partition, &offset); err != nil || n != 2 || place != fmt.Sprintf("%d/%d", partition, offset) {
			return filter, fmt.Errorf("--place %q: write partition/offset, as show prints it", place)
		}
	}
	if f.Since == "" {
		return filter, nil
	}
	if ago, err := time.ParseDuration(f.Since); err == nil {
		filter.Since = now.Add(-ago)
		return filter, nil
	}
	at, err := time.Parse(time.RFC3339, f.Since)
	if err != nil {
		return filter, fmt.Errorf("--since %q: write a time as 2026-11-21T20:00:00Z, or how long ago as 24h", f.Since)
	}
	filter.Since = at
	return filter, nil
}

// dlqLsCmd is `sillage dlq ls`.
type dlqLsCmd struct {
	letterBox
	JSON bool `name:"json" help:"Print one JSON object a stage."`
}

// summaryView is a stage's dead letters as JSON.
type summaryView struct {
	Stage    string         `json:"stage"`
	Letters  int            `json:"letters"`
	Replayed int            `json:"replayed"`
	Oldest   time.Time      `json:"oldest"`
	Newest   time.Time      `json:"newest"`
	Reasons  map[string]int `json:"reasons"`
}

// Run lists the stages that have dead letters.
func (c *dlqLsCmd) Run(ctx context.Context, streams Streams) error {
	box, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer box.Close()
	stages, err := box.Stages(ctx)
	if err != nil {
		return err
	}
	var found []dlq.Summary
	for _, stage := range stages {
		s, err := box.Summarize(ctx, stage)
		if err != nil {
			return err
		}
		if s.Letters > 0 {
			found = append(found, s)
		}
	}
	if c.JSON {
		encoder := json.NewEncoder(streams.Out)
		for _, s := range found {
			if err := encoder.Encode(summaryView(s)); err != nil {
				return err
			}
		}
		return nil
	}
	printSummaries(streams, stages, found)
	return nil
}

func printSummaries(streams Streams, stages []string, found []dlq.Summary) {
	if len(found) == 0 {
		fmt.Fprintf(streams.Out, "no dead letters in %d stages: %s\n", len(stages), strings.Join(stages, ", "))
		return
	}
	t := table.NewWriter()
	t.SetOutputMirror(streams.Out)
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"stage", "letters", "replayed", "oldest", "newest", "waiting, by class and reason"})
	for _, s := range found {
		reasons := slices.SortedFunc(maps.Keys(s.Reasons), func(a, b string) int {
			if n := s.Reasons[b] - s.Reasons[a]; n != 0 {
				return n
			}
			return strings.Compare(a, b)
		})
		row := table.Row{s.Stage, s.Letters, s.Replayed, stamp(s.Oldest), stamp(s.Newest), ""}
		if len(reasons) == 0 {
			t.AppendRow(row)
		}
		for i, reason := range reasons {
			if i > 0 {
				row = table.Row{"", "", "", "", "", ""}
			}
			row[5] = fmt.Sprintf("%d × %s", s.Reasons[reason], clip(reason, 100))
			t.AppendRow(row)
		}
	}
	t.Render()
}

func stamp(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05") }

func clip(text string, n int) string {
	if runes := []rune(text); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return text
}

// dlqReplayCmd is `sillage dlq replay`.
type dlqReplayCmd struct { //nolint:recvcheck // the parser asks the value for its help and runs the pointer
	letterBox
	letterFilter
	Stage  string `arg:"" help:"Stage, as ls prints it."`
	All    bool   `help:"All that have not been put back yet."`
	Limit  int    `help:"At most so many; 0 for all." default:"0"`
	DryRun bool   `help:"Only say what would be done."`
}

// Help is what `sillage dlq replay --help` adds.
func (dlqReplayCmd) Help() string {
	return `Each letter is put back at most once, however often the command is run and wherever it is interrupted: run it again. It goes to the topic <stage>.replay, which only its stage reads, and not to the topic that it came from, whose other readers have handled it. A timer fires once more with its own due time. What fails again becomes a new letter, which can be put back again.

Mend the cause first.`
}

// shownRefusals bounds the lines about letters that cannot be put back.
const shownRefusals = 20

// Run puts the chosen letters back.
func (c *dlqReplayCmd) Run(ctx context.Context, streams Streams) error {
	if c.All != c.empty() {
		return errors.New("say which letters: --all, or at least one of --tenant, --reason, --class, --since and --place")
	}
	filter, err := c.filter(time.Now())
	if err != nil {
		return err
	}
	box, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer box.Close()
	out := progress.New(streams.Err)
	refused := 0
	result, err := box.Replay(ctx, c.Stage, filter, dlq.Options{
		DryRun: c.DryRun, Limit: c.Limit,
		Progress: func(n int) { out.Linef("%d put back", n) },
		Refused: func(l *dlq.Letter, err error) {
			if refused++; refused <= shownRefusals {
				fmt.Fprintf(streams.Err, "%s cannot be put back: %v\n", l.Place(), err)
			}
		},
	})
	verb := "put back"
	if c.DryRun {
		verb = "would be put back (dry run)"
	}
	fmt.Fprintf(streams.Out, "%s: %d %s, %d had been before, %d cannot be\n", c.Stage, result.Replayed, verb, result.Before, result.Refused)
	switch {
	case err != nil:
		return fmt.Errorf("%w\nrun the same again: nothing is put back twice", err)
	case result.Refused > 0:
		return fmt.Errorf("%d letters cannot be put back", result.Refused)
	}
	return nil
}
