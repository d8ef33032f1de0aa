package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/services/analytics/internal/audit"
)

// LedgerCheck says how to check the ledger.
type LedgerCheck struct {
	Kafka      kafka.Config
	ClickHouse ClickHouse
	Logger     *slog.Logger
	// DeadLetters is the topic of the dead letters of the stage that reads the events.
	DeadLetters string
	// Wait is how long events that are not accounted for may be under way.
	Wait time.Duration
	// Progress is told of records that were read.
	Progress func(records int)
}

// ErrLedger means that something is not accounted for.
var ErrLedger = errors.New("not everything that came in is accounted for")

// CheckLedger reads what Kafka holds, compares it with the ledger and the tables, and writes to w what it
// found. It returns ErrLedger if something is lost, doubled or miscounted, another error if it could not
// check.
func CheckLedger(ctx context.Context, check LedgerCheck, w io.Writer) error {
	conn, err := open(check.ClickHouse, check.ClickHouse.Database, 1)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // it only read
	if err := conn.Ping(ctx); err != nil {
		return fmt.Errorf("reaching ClickHouse at %s: %w", check.ClickHouse.Addr, err)
	}
	report, err := audit.New(audit.Config{
		Kafka: check.Kafka, Logger: check.Logger, DeadLetters: check.DeadLetters, Wait: check.Wait, Progress: check.Progress,
	}, conn).Run(ctx)
	if err != nil {
		return err
	}
	if err := report.Print(w); err != nil {
		return err
	}
	if !report.Clean() {
		return ErrLedger
	}
	return nil
}
