package cli

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sillage-cdp/sillage/services/sillage/internal/importer"
	"github.com/sillage-cdp/sillage/services/sillage/internal/progress"
)

// importCmd is `sillage import`.
type importCmd struct {
	Source   string `required:"" help:"Write key of the source that the events belong to."`
	File     string `arg:"" help:"JSON Lines file, .jsonl or .jsonl.gz; - for standard input."`
	URL      string `name:"url" help:"Where ingest listens." default:"http://127.0.0.1:8080" env:"SILLAGE_URL"`
	Parallel int    `help:"Requests in flight." default:"4"`
}

// Run imports the file and reports what was refused, by line.
func (c *importCmd) Run(ctx context.Context, streams Streams) error {
	if c.Parallel < 1 || c.Parallel > 64 {
		return fmt.Errorf("--parallel %d is not between 1 and 64", c.Parallel)
	}
	input, size, err := c.open(streams.In)
	if err != nil {
		return err
	}
	defer input.Close() //nolint:errcheck // read only
	bar := progress.New(streams.Err).Bytes("importing "+c.File, size)
	text, err := c.plain(bar.Reader(input))
	if err != nil {
		return err
	}
	result, err := importer.Import(ctx, text, importer.Options{URL: strings.TrimSuffix(c.URL, "/"), WriteKey: c.Source, Parallel: c.Parallel})
	bar.Done()
	c.report(streams.Out, result)
	if err != nil {
		return err
	}
	if result.Refused > 0 {
		return fmt.Errorf("%d lines were refused; mend them and import the same file again: what was accepted is not taken twice", result.Refused)
	}
	return nil
}

func (c *importCmd) open(stdin io.Reader) (io.ReadCloser, int64, error) {
	if c.File == "-" {
		return io.NopCloser(stdin), 0, nil
	}
	file, err := os.Open(c.File)
	if err != nil {
		return nil, 0, fmt.Errorf("opening the import: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("opening the import: %w", err), file.Close())
	}
	return file, info.Size(), nil
}

func (c *importCmd) plain(r io.Reader) (io.Reader, error) {
	if !strings.HasSuffix(c.File, ".gz") {
		return r, nil
	}
	unzipped, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", c.File, err)
	}
	return unzipped, nil
}

// maxListed bounds the refusals that are printed.
const maxListed = 20

func (c *importCmd) report(w io.Writer, result importer.Result) {
	fmt.Fprintf(w, "%d events accepted, %d lines refused\n", result.Accepted, result.Refused)
	for _, r := range result.Refusals[:min(maxListed, len(result.Refusals))] {
		fmt.Fprintf(w, "  %s:%d: %s\n", c.File, r.Line, r.Code)
	}
	if result.Refused > maxListed {
		fmt.Fprintf(w, "  … and %d more\n", result.Refused-maxListed)
	}
}
