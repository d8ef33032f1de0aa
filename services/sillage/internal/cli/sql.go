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

// sqlCmd is `sillage sql`.
type sqlCmd struct {
	Query      string `arg:"" optional:"" help:"The query; read from standard input if not given."`
	Format     string `help:"ClickHouse output format." default:"PrettyCompactMonoBlock"`
	Database   string `help:"Database." default:"sillage"`
	ClickHouse string `name:"clickhouse" help:"Address of ClickHouse's HTTP interface." default:"127.0.0.1:8123" env:"SILLAGE_CLICKHOUSE__ADDR"`
}

// Run sends the query and copies the answer as it comes.
func (c *sqlCmd) Run(ctx context.Context, streams Streams) error {
	query, err := c.query(streams.In)
	if err != nil {
		return err
	}
	target := url.URL{Scheme: "http", Host: c.ClickHouse, Path: "/", RawQuery: url.Values{
		"database": {c.Database}, "default_format": {c.Format},
	}.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), strings.NewReader(query))
	if err != nil {
		return fmt.Errorf("making the request: %w", err)
	}
	resp, err := http.DefaultClient.Do(req) //nolint:bodyclose // drain closes it
	if err != nil {
		return fmt.Errorf("nothing answers at %s: start `sillage up`, or name the address with --clickhouse (%w)", c.ClickHouse, err)
	}
	defer drain(resp.Body)
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return errors.Join(errors.New(strings.TrimSpace(string(text))), err)
	}
	if _, err := io.Copy(streams.Out, resp.Body); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	return nil
}

func (c *sqlCmd) query(stdin io.Reader) (string, error) {
	if c.Query != "" {
		return c.Query, nil
	}
	text, err := io.ReadAll(io.LimitReader(stdin, 1<<20))
	if err != nil {
		return "", fmt.Errorf("reading the query: %w", err)
	}
	if strings.TrimSpace(string(text)) == "" {
		return "", errors.New("no query: write sillage sql 'SELECT …'")
	}
	return string(text), nil
}
