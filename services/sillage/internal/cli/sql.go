package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// sqlCmd is `sillage sql`.
type sqlCmd struct {
	clickHouse
	Query  string `arg:"" optional:"" help:"The query; read from standard input if not given."`
	Format string `help:"ClickHouse output format." default:"PrettyCompactMonoBlock"`
}

// Run sends the query and copies the answer as it comes.
func (c *sqlCmd) Run(ctx context.Context, streams Streams) error {
	query, err := c.query(streams.In)
	if err != nil {
		return err
	}
	return c.ask(ctx, query, c.Format, func(answer io.Reader) error {
		_, err := io.Copy(streams.Out, answer)
		return err //nolint:wrapcheck // ask says what it was
	})
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
