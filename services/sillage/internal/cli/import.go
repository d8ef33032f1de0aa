package cli

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sillage-cdp/sillage/services/sillage/internal/importer"
	"github.com/sillage-cdp/sillage/services/sillage/internal/mapping"
	"github.com/sillage-cdp/sillage/services/sillage/internal/progress"
	"github.com/sillage-cdp/sillage/services/sillage/internal/resume"
	"github.com/sillage-cdp/sillage/services/sillage/internal/rows"
)

// importCmd is `sillage import`.
type importCmd struct {
	Source   string `required:"" help:"Write key of the source that the events belong to."`
	File     string `arg:"" help:"File of events or rows: .jsonl or .csv, also with .gz; - for standard input."`
	Mapping  string `help:"YAML file that says how rows become events. CSV needs one; JSON Lines without one are events." placeholder:"FILE"`
	Format   string `help:"jsonl or csv; by the file's name if not given." enum:"jsonl,csv,auto" default:"auto"`
	Refused  string `help:"Write every refused row (line, code, reason) to this CSV file." placeholder:"FILE"`
	Restart  bool   `help:"Begin at the beginning although an earlier import of the file was broken off."`
	DryRun   bool   `name:"dry-run" help:"Map the first rows, print their events and send nothing."`
	URL      string `name:"url" help:"Where ingest listens." default:"http://127.0.0.1:8080" env:"SILLAGE_URL"`
	Parallel int    `help:"Requests in flight." default:"4"`
}

// Run imports the file and reports what was refused, by line.
func (c *importCmd) Run(ctx context.Context, streams Streams) error {
	if c.Parallel < 1 || c.Parallel > 64 {
		return fmt.Errorf("--parallel %d is not between 1 and 64", c.Parallel)
	}
	input, err := c.open(streams.In)
	if err != nil {
		return err
	}
	defer input.close()
	if c.DryRun {
		file, err := c.rows(input.raw, input)
		if err != nil {
			return err
		}
		return importer.Preview(file, importer.Options{Mapping: input.mapping, File: input.about}, previewed, streams.Out)
	}
	return c.send(ctx, input, streams)
}

// previewed is how many events --dry-run prints.
const previewed = 10

func (c *importCmd) send(ctx context.Context, input *importInput, streams Streams) error {
	out := progress.New(streams.Err)
	options := importer.Options{
		URL: strings.TrimSuffix(c.URL, "/"), WriteKey: c.Source, Parallel: c.Parallel, Mapping: input.mapping, File: input.about,
	}
	if input.note != nil && !c.Restart && input.note.Load(&options.From) {
		out.Stagef("going on after line %d of %s, where an earlier import was broken off (--restart begins anew)", options.From.Line, c.File)
	}
	refused, err := c.refusals(options.From.Line > 0)
	if err != nil {
		return err
	}
	saved := time.Now()
	options.Checkpoint = func(at importer.Position, list []importer.Refusal) error {
		if err := refused.add(list); err != nil || input.note == nil || time.Since(saved) < time.Second {
			return err
		}
		saved = time.Now()
		return input.note.Save(at)
	}
	bar := out.Bytes("importing "+c.File, input.size)
	file, err := c.rows(bar.Reader(input.raw), input)
	if err != nil {
		bar.Done()
		return err
	}
	result, err := importer.Import(ctx, file, options)
	bar.Done()
	c.report(streams.Out, result)
	err = errors.Join(err, refused.close())
	if err != nil {
		return c.brokenOff(err, input, result)
	}
	if input.note != nil {
		if err := input.note.Clear(); err != nil {
			return err
		}
	}
	if result.Refused > 0 {
		return fmt.Errorf("%d rows were refused; mend them and import the same file again: what was accepted is not taken twice", result.Refused)
	}
	return nil
}

// brokenOff notes where the import stands and says how to go on.
func (c *importCmd) brokenOff(err error, input *importInput, result importer.Result) error {
	if input.note == nil || result.Line == 0 {
		return err
	}
	if noteErr := input.note.Save(result.Position); noteErr != nil {
		return errors.Join(err, noteErr)
	}
	return fmt.Errorf("%w\neverything up to line %d is done; the same command goes on there", err, result.Line)
}

// importInput is what is imported.
type importInput struct {
	raw     io.Reader
	close   func()
	size    int64 // 0 if unknown
	about   mapping.File
	mapping *mapping.Mapping
	note    *resume.Note // nil for standard input
}

func (c *importCmd) open(stdin io.Reader) (*importInput, error) {
	input := &importInput{raw: stdin, close: func() {}, about: mapping.File{Name: "stdin", Time: time.Now()}, mapping: mapping.Whole()}
	what := c.URL + "\x00" + c.Source
	if c.Mapping != "" {
		text, err := os.ReadFile(c.Mapping)
		if err != nil {
			return nil, fmt.Errorf("opening the mapping: %w", err)
		}
		if input.mapping, err = mapping.Parse(strings.NewReader(string(text))); err != nil {
			return nil, fmt.Errorf("%s is not right:\n%w", c.Mapping, err)
		}
		sum := sha256.Sum256(text)
		what += "\x00" + hex.EncodeToString(sum[:])
	}
	if c.File == "-" {
		return input, nil
	}
	file, err := os.Open(c.File)
	if err != nil {
		return nil, fmt.Errorf("opening the import: %w", err)
	}
	input.raw, input.close = file, func() { _ = file.Close() }
	info, err := file.Stat()
	if err != nil {
		input.close()
		return nil, fmt.Errorf("opening the import: %w", err)
	}
	input.size, input.about = info.Size(), mapping.File{Name: filepath.Base(c.File), Time: info.ModTime()}
	dir, err := resume.Dir()
	if err == nil {
		input.note, err = resume.For(dir, file, what)
	}
	if err != nil {
		input.close()
		return nil, err
	}
	return input, nil
}

// rows reads the input as what it is.
func (c *importCmd) rows(raw io.Reader, input *importInput) (rows.Reader, error) {
	text, err := unzipped(raw)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", c.File, err)
	}
	format, name := c.Format, strings.TrimSuffix(strings.ToLower(c.File), ".gz")
	if format == "auto" {
		format = "jsonl"
		if strings.HasSuffix(name, ".csv") || strings.HasSuffix(name, ".tsv") {
			format = "csv"
		}
	}
	if format == "jsonl" {
		return rows.NewJSONLines(text), nil
	}
	if c.Mapping == "" {
		return nil, errors.New("rows of CSV are no events: say with --mapping how they become some (services/sillage/README.md has examples)")
	}
	how := input.mapping.CSV
	if how.Delimiter == "" && strings.HasSuffix(name, ".tsv") {
		how.Delimiter = "\t"
	}
	file, err := rows.NewCSV(text, how)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", c.File, err)
	}
	if err := input.mapping.Check(file); err != nil {
		return nil, fmt.Errorf("%s does not fit %s:\n%w", c.Mapping, c.File, err)
	}
	return file, nil
}

// unzipped undoes gzip, which is known by its first bytes.
func unzipped(raw io.Reader) (io.Reader, error) {
	buffered := bufio.NewReader(raw)
	if magic, err := buffered.Peek(2); err != nil || magic[0] != 0x1f || magic[1] != 0x8b {
		return buffered, nil //nolint:nilerr // a file of one byte is no gzip; its reader will say the rest
	}
	return gzip.NewReader(buffered) //nolint:wrapcheck // the caller does
}

// maxListed bounds the refusals that are printed.
const maxListed = 20

func (c *importCmd) report(w io.Writer, result importer.Result) {
	fmt.Fprintf(w, "%d events accepted, %d rows refused\n", result.Accepted, result.Refused)
	for _, r := range result.Refusals[:min(maxListed, len(result.Refusals))] {
		fmt.Fprintf(w, "  %s:%d: %s: %s\n", c.File, r.Line, r.Code, r.Detail)
	}
	if more := len(result.Refusals) - maxListed; more > 0 {
		fmt.Fprintf(w, "  … and more; --refused FILE takes them all\n")
	}
}

// refusalFile is the file of --refused; without one it takes nothing.
type refusalFile struct {
	file *os.File
	csv  *csv.Writer
}

// refusals opens the file; an import that goes on adds to it.
func (c *importCmd) refusals(goOn bool) (*refusalFile, error) {
	if c.Refused == "" {
		return &refusalFile{}, nil
	}
	how := os.O_TRUNC
	if goOn {
		how = os.O_APPEND
	}
	file, err := os.OpenFile(c.Refused, os.O_CREATE|os.O_WRONLY|how, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the file of refusals: %w", err)
	}
	f := &refusalFile{file: file, csv: csv.NewWriter(file)}
	if !goOn {
		err = f.csv.Write([]string{"line", "code", "reason"})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("writing the file of refusals: %w", err), file.Close())
	}
	return f, nil
}

func (f *refusalFile) add(list []importer.Refusal) error {
	if f.csv == nil {
		return nil
	}
	for _, r := range list {
		if err := f.csv.Write([]string{strconv.Itoa(r.Line), r.Code, r.Detail}); err != nil {
			return fmt.Errorf("writing the file of refusals: %w", err)
		}
	}
	f.csv.Flush()
	if err := f.csv.Error(); err != nil {
		return fmt.Errorf("writing the file of refusals: %w", err)
	}
	return nil
}

func (f *refusalFile) close() error {
	if f.file == nil {
		return nil
	}
	f.csv.Flush()
	if err := errors.Join(f.csv.Error(), f.file.Close()); err != nil {
		return fmt.Errorf("writing the file of refusals: %w", err)
	}
	return nil
}
