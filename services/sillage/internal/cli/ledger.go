package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/sillage-cdp/sillage/services/sillage/internal/progress"

	analyticsapp "github.com/sillage-cdp/sillage/services/analytics/app"
)

// ledgerCmd is `sillage ledger`.
type ledgerCmd struct {
	Check ledgerCheckCmd `cmd:"" help:"Check that every event that came in is stored, or refused for a reason."`
}

// ledgerCheckCmd is `sillage ledger check`.
type ledgerCheckCmd struct {
	brokers
	ClickHouse  string        `name:"clickhouse" help:"Address of ClickHouse's HTTP interface." default:"127.0.0.1:8123" env:"SILLAGE_CLICKHOUSE__ADDR"`
	Database    string        `help:"Database." default:"sillage"`
	Username    string        `help:"ClickHouse user." env:"SILLAGE_CLICKHOUSE__USERNAME"`
	PasswordRef string        `help:"Where the password is: env:NAME or file:PATH." env:"SILLAGE_CLICKHOUSE__PASSWORD_REF"`
	Wait        time.Duration `help:"How long events that are not accounted for may be under way." default:"30s"`
}

// resolverDeadLetters is the dead-letter topic of the stage that reads the events: what it could not handle is
// accounted for there.
const resolverDeadLetters = "identity-resolver.dlq"

// Run checks, prints what was found, and fails if anything is not accounted for.
func (c *ledgerCheckCmd) Run(ctx context.Context, streams Streams) error {
	kafka, err := c.use()
	if err != nil {
		return err
	}
	bar := progress.New(streams.Err).Count("reading Kafka", 0)
	var found bytes.Buffer
	err = analyticsapp.CheckLedger(ctx, analyticsapp.LedgerCheck{
		Kafka:       kafka,
		ClickHouse:  analyticsapp.ClickHouse{Addr: c.ClickHouse, Database: c.Database, Username: c.Username, PasswordRef: c.PasswordRef},
		Logger:      slog.New(slog.DiscardHandler),
		DeadLetters: resolverDeadLetters, Wait: c.Wait, Progress: bar.Add,
	}, &found)
	bar.Done()
	_, _ = found.WriteTo(streams.Out) // a terminal that is gone reads nothing
	if err != nil && !errors.Is(err, analyticsapp.ErrLedger) {
		return fmt.Errorf("%w (is `sillage up` running? --kafka %s and --clickhouse %s name where)", err, strings.Join(kafka.Brokers, ","), c.ClickHouse)
	}
	return err
}
