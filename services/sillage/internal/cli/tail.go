package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	ingestv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ingest/v1"
)

// tailCmd is `sillage tail`.
type tailCmd struct {
	remote    `embed:""`
	Tenant    string `required:"" help:"The tenant."`
	Source    string `help:"Only events of this source."`
	Name      string `help:"Only events of this name."`
	Refused   bool   `help:"Only events that were refused or dropped."`
	Payload   bool   `help:"Print whole events, with personal data."`
	PerSecond int32  `help:"At most so many a second; the others are counted." default:"100"`
	Count     int    `short:"n" help:"End after so many; 0 goes on until interrupted." default:"0"`
	JSON      bool   `help:"Print JSON Lines."`
}

// Run prints what comes in until it is interrupted.
func (c *tailCmd) Run(ctx context.Context, streams Streams) error {
	conn, err := grpc.NewClient(c.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("connecting to %s: %w", c.GRPC, err)
	}
	defer conn.Close() //nolint:errcheck // it only read
	err = c.follow(ctx, ingestv1.NewTailServiceClient(conn), streams)
	if status.Code(err) == codes.Canceled || errors.Is(err, io.EOF) {
		return nil // interrupted, or the server stops in order
	}
	return c.explain(err)
}

func (c *tailCmd) follow(ctx context.Context, client ingestv1.TailServiceClient, streams Streams) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Tail(ctx, &ingestv1.TailRequest{
		Tenant: c.Tenant, Source: c.Source, Name: c.Name, RefusedOnly: c.Refused, Payload: c.Payload, PerSecond: c.PerSecond,
	})
	if err != nil {
		return err //nolint:wrapcheck // Run explains it
	}
	if _, err := stream.Header(); err != nil {
		return err //nolint:wrapcheck // Run explains it
	}
	fmt.Fprintf(streams.Err, "looking on at %s; interrupt to stop\n", c.Tenant)
	for shown := 0; c.Count == 0 || shown < c.Count; shown++ {
		entry, err := stream.Recv()
		if err != nil {
			return err //nolint:wrapcheck // Run explains it
		}
		if entry.GetSkipped() > 0 {
			fmt.Fprintf(streams.Err, "(%d left out: more than --per-second %d)\n", entry.GetSkipped(), c.PerSecond)
		}
		line, err := c.line(entry)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(streams.Out, line); err != nil {
			return fmt.Errorf("printing: %w", err)
		}
	}
	return nil
}

func (c *tailCmd) line(entry *ingestv1.TailResponse) (string, error) {
	if c.JSON {
		text, err := protojson.Marshal(entry)
		if err != nil {
			return "", fmt.Errorf("printing: %w", err)
		}
		return string(text), nil
	}
	at := time.UnixMilli(entry.GetReceivedAtMs()).UTC().Format("15:04:05.000")
	fate := strings.ToLower(strings.TrimPrefix(entry.GetFate().String(), "TAIL_FATE_"))
	what := entry.GetReason() + ": " + entry.GetDetail()
	if entry.GetFate() == ingestv1.TailFate_TAIL_FATE_ACCEPTED {
		what = strings.ToLower(strings.TrimPrefix(entry.GetType().String(), "EVENT_TYPE_")) + " " + entry.GetName()
	}
	line := fmt.Sprintf("%s %-12s %s %s %s", at, fate, entry.GetSource(), entry.GetMessageId(), strings.TrimSuffix(what, ": "))
	if ev := entry.GetEvent(); ev != nil {
		payload, err := json.Marshal(map[string]json.RawMessage{
			"properties": object(ev.GetProperties()), "traits": object(ev.GetTraits()), "context": object(ev.GetContext()),
		})
		if err != nil {
			return "", fmt.Errorf("printing an event: %w", err)
		}
		line += fmt.Sprintf(" user %q anonymous %q %s", ev.GetUserId(), ev.GetAnonymousId(), payload)
	}
	return line, nil
}

// object is a JSON object, empty if there is none.
func object(raw []byte) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("{}")
	}
	return raw
}
