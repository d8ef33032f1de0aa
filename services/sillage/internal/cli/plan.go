package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/sillage-cdp/sillage/pkg/definition"
	controlv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/control/v1"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	ingestapp "github.com/sillage-cdp/sillage/services/ingest/app"
	"github.com/sillage-cdp/sillage/services/sillage/internal/plandraft"
)

// planCmd is `sillage plan`.
type planCmd struct {
	Draft  planDraftCmd  `cmd:"" help:"Print a tracking plan made of what a source has sent."`
	Replay planReplayCmd `cmd:"" help:"Let events in that the plan had set aside."`
}

// Help is what `sillage plan --help` adds.
func (planCmd) Help() string {
	return `A tracking plan says which events a source is meant to send, and with what properties. What is not as planned is let in, set aside or refused, as the plan says, and always noted:

  sillage sql 'SELECT name, path, keyword, planned, was, events, latest_sample FROM plan_issues'
  sillage sql 'SELECT name, events, last_seen FROM unplanned_events'`
}

// planSource says whose plan.
type planSource struct {
	Tenant string `required:"" help:"The tenant."`
	Source string `required:"" help:"Name of the source."`
}

// planDraftCmd is `sillage plan draft`.
type planDraftCmd struct {
	planSource
	clickHouse
	Days int `help:"How many days back to look." default:"30"`
}

// Run prints the plan as YAML that apply reads.
func (c *planDraftCmd) Run(ctx context.Context, streams Streams) error {
	// Both stand in the query: what is no name is refused here.
	probe := &definitionv1.Definition{Tenant: c.Tenant, Name: c.Source, Spec: &definitionv1.Definition_TrackingPlan{
		TrackingPlan: &definitionv1.TrackingPlan{Source: c.Source},
	}}
	if err := definition.Validate(probe, nil); err != nil {
		return err
	}
	seen := plandraft.Seen{Tenant: c.Tenant, Source: c.Source}
	if err := c.rows(ctx, c.eventsQuery(), func(row draftRow) {
		seen.Events = append(seen.Events, plandraft.Event{Type: row.Type, Name: row.Name, Count: row.Count})
	}); err != nil {
		return err
	}
	if err := c.rows(ctx, c.propertiesQuery(), func(row draftRow) {
		seen.Properties = append(seen.Properties, plandraft.Property{Type: row.Type, Name: row.Name, Path: row.Path, Kinds: row.Kinds, Count: row.Count})
	}); err != nil {
		return err
	}
	def, left, err := plandraft.Draft(seen)
	if err != nil {
		return err
	}
	text, err := definition.FormatYAML(def)
	if err != nil {
		return fmt.Errorf("printing the plan: %w", err)
	}
	if left > 0 {
		fmt.Fprintf(streams.Err, "the %d rarest events are left out: a plan can list %d\n", left, definition.MaxPlannedEvents)
	}
	_, err = streams.Out.Write(text)
	return err //nolint:wrapcheck // standard output says enough
}

// what of a source's events is looked at; pages and the like are planned all together.
func (c *planDraftCmd) from(more string) string {
	return fmt.Sprintf("(SELECT type, if(type = 'track', name, '') AS event, properties, traits FROM %s.events WHERE tenant = '%s' AND source = '%s' AND timestamp >= now() - toIntervalDay(%d) AND NOT internal AND type != 'alias'%s)",
		c.Database, c.Tenant, c.Source, c.Days, more)
}

func (c *planDraftCmd) eventsQuery() string {
	return "SELECT type, event AS name, toFloat64(count()) AS count FROM " + c.from("") + " GROUP BY type, name"
}

func (c *planDraftCmd) propertiesQuery() string {
	part := func(column, condition string) string {
		return "SELECT type, event, arrayJoin(CAST(JSONAllPathsWithTypes(" + column + "), 'Array(Tuple(String, String))')) AS member FROM " + c.from(condition)
	}
	return "SELECT type, event AS name, member.1 AS path, groupUniqArray(20)(member.2) AS kinds, toFloat64(count()) AS count FROM (" +
		part("properties", " AND type NOT IN ('identify', 'group')") + " UNION ALL " + part("traits", " AND type IN ('identify', 'group')") +
		") GROUP BY type, name, path ORDER BY type, name, path"
}

// draftRow is a row of either query.
type draftRow struct {
	Type  string   `json:"Type"`
	Name  string   `json:"Name"`
	Path  string   `json:"Path"`
	Kinds []string `json:"Kinds"`
	Count int64    `json:"Count"`
}

// rows runs a query and hands on its rows.
func (c *planDraftCmd) rows(ctx context.Context, query string, each func(draftRow)) error {
	return c.ask(ctx, query, "JSONEachRow", func(answer io.Reader) error {
		decoder := json.NewDecoder(bufio.NewReader(answer))
		for {
			var row draftRow
			if err := decoder.Decode(&row); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err //nolint:wrapcheck // ask says what it was
			}
			each(row)
		}
	})
}

// planReplayCmd is `sillage plan replay`.
type planReplayCmd struct {
	remote
	planSource
	brokers
	All    bool `help:"Let in what is still not as planned, too."`
	DryRun bool `help:"Only count."`
}

// Run lets in what is as planned now.
func (c *planReplayCmd) Run(ctx context.Context, streams Streams) error {
	var defs []*definitionv1.Definition
	if err := c.call(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		resp, err := controlv1.NewDefinitionServiceClient(conn).ListDefinitions(ctx, &controlv1.ListDefinitionsRequest{Tenant: c.Tenant})
		defs = resp.GetDefinitions()
		return err
	}); err != nil {
		return err
	}
	kafka, err := c.use()
	if err != nil {
		return err
	}
	report, err := ingestapp.Replay{
		Kafka: kafka, Logger: slog.New(slog.DiscardHandler), Definitions: definition.NewSnapshot(defs...),
		Tenant: c.Tenant, Source: c.Source, All: c.All, DryRun: c.DryRun, Now: time.Now(),
	}.Run(ctx)
	if err != nil {
		return fmt.Errorf("%w (is `sillage up` running? --kafka %s names where)", err, strings.Join(kafka.Brokers, ","))
	}
	suffix := ""
	if c.DryRun {
		suffix = " (dry run: nothing is changed)"
	}
	fmt.Fprintf(streams.Out, "%d set aside, %d let in, %d still not as planned%s\n", report.Read, report.LetIn, report.Kept, suffix)
	if report.Unreadable > 0 {
		fmt.Fprintf(streams.Out, "%d records are no events and stay where they are\n", report.Unreadable)
	}
	return nil
}
