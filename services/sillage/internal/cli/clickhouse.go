package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// clickHouse is the flags of commands that ask ClickHouse.
type clickHouse struct {
	Database string `help:"Database." default:"sillage"`
	Addr     string `name:"clickhouse" help:"Address of ClickHouse's HTTP interface." default:"127.0.0.1:8123" env:"SILLAGE_CLICKHOUSE__ADDR"`
}

// ask sends a query and hands the answer to read as it comes; what ClickHouse says of a failure is the error.
func (c clickHouse) ask(ctx context.Context, query, format string, read func(io.Reader) error) error {
	target := url.URL{Scheme: "http", Host: c.Addr, Path: "/", RawQuery: url.Values{
		"database": {c.Database}, "default_format": {format},
	}.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), strings.NewReader(query))
	if err != nil {
		return fmt.Errorf("making the request: %w", err)
	}
	resp, err := http.DefaultClient.Do(req) //nolint:bodyclose // drain closes it
	if err != nil {
		return fmt.Errorf("nothing answers at %s: start `sillage up`, or name the address with --clickhouse (%w)", c.Addr, err)
	}
	defer drain(resp.Body)
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return errors.Join(errors.New(strings.TrimSpace(string(text))), err)
	}
	if err := read(resp.Body); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	return nil
}
