// Package importer sends files to the import endpoint of ingest: events of the tracking API one a line, or
// rows that a mapping turns into events.
//
// It promises:
//   - The same file may be sent any number of times: ingest derives the id of an event that has none from
//     its content, and identity drops what it has seen (TestSendsEveryLineOnce; the path test).
//   - A row that makes no event, or whose event ingest refuses, is reported with its line and costs nothing
//     else (TestBadLinesAreNamedAndCostNothingElse).
//   - An import that was broken off goes on where it stood: Checkpoint is told, in order, up to which line
//     every row has been answered (TestBrokenOffGoesOn).
//   - An answer that asks to wait is obeyed.
package importer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"

	"github.com/sillage-cdp/sillage/services/sillage/internal/mapping"
	"github.com/sillage-cdp/sillage/services/sillage/internal/rows"
)

// Options say where and how to import.
type Options struct {
	// URL is where ingest listens, for example `http://127.0.0.1:8080`.
	URL string
	// WriteKey is the write key of the source.
	WriteKey string
	// Mapping makes events of rows. Default mapping.Whole.
	Mapping *mapping.Mapping
	// File is what the mapping may say of the file.
	File mapping.File
	// From is what an earlier import of the same file has done; the zero value begins at its beginning.
	From Position
	// Parallel is how many requests are in flight at most. Default 4.
	Parallel int
	// BatchEvents and BatchBytes bound one request. Defaults 500 events and 4 MiB.
	BatchEvents, BatchBytes int
	// GiveUpAfter bounds the tries of one request. Default 5 minutes.
	GiveUpAfter time.Duration
	// Progress is told how many events were answered, from several goroutines; may be nil.
	Progress func(events int)
	// Checkpoint is told how far the import has come and which rows on the way were refused, one call at a
	// time, in the order of the file; may be nil. An error ends the import.
	Checkpoint func(Position, []Refusal) error
	// Client sends the requests; nil takes http.DefaultClient.
	Client *http.Client
}

func (o Options) withDefaults() Options {
	if o.Mapping == nil {
		o.Mapping = mapping.Whole()
	}
	if o.Parallel == 0 {
		o.Parallel = 4
	}
	if o.BatchEvents == 0 {
		o.BatchEvents = 500
	}
	if o.BatchBytes == 0 {
		o.BatchBytes = 4 << 20
	}
	if o.GiveUpAfter == 0 {
		o.GiveUpAfter = 5 * time.Minute
	}
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	if o.Progress == nil {
		o.Progress = func(int) {}
	}
	if o.Checkpoint == nil {
		o.Checkpoint = func(Position, []Refusal) error { return nil }
	}
	return o
}

// Refusal is a row that was not taken.
type Refusal struct {
	// Line is where it begins, from 1; of several rows that are one event, the first.
	Line int
	// Code is why, in a word; Detail in a sentence.
	Code, Detail string
}

// Position is how far an import has come.
type Position struct {
	// Line is the last line up to which everything is answered.
	Line int `json:"line"`
	// Accepted is how many events ingest took; one that it had before counts again.
	Accepted int `json:"accepted"`
	// Refused is how many rows, or groups of rows, were not taken.
	Refused int `json:"refused"`
}

// Result is what became of the rows.
type Result struct {
	Position
	// Refusals holds the first maxRefusals of this run, by line.
	Refusals []Refusal
}

// maxRefusals bounds the refusals that are listed one by one.
const maxRefusals = 1000

// Import sends every row of a file. The error is about the import as a whole (ingest cannot be reached,
// the key is wrong, the file cannot be read on); what was done until then stands in the result.
func Import(ctx context.Context, file rows.Reader, options Options) (Result, error) {
	o := options.withDefaults()
	done := newSequence(o)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(o.Parallel)
	number := 0
	readErr := batches(ctx, newEvents(file, o, o.From.Line), o, func(b batch) {
		n := number
		number++
		group.Go(func() error {
			accepted, refused, err := send(ctx, o, b)
			if err != nil {
				return err
			}
			o.Progress(len(b.lines) + len(b.refusals))
			return done.finished(n, outcome{last: b.last, accepted: accepted, refusals: append(refused, b.refusals...)})
		})
	})
	sendErr := group.Wait()
	if sendErr != nil && errors.Is(readErr, context.Canceled) {
		readErr = nil // reading stopped because sending failed
	}
	return done.result(), errors.Join(sendErr, readErr)
}

// answer is what ingest says with `X-Sillage-Verbose: 1`.
type answer struct {
	Success  bool   `json:"success"`
	Message  string `json:"message"`
	Accepted int    `json:"accepted"`
	Rejected []struct {
		Index   int    `json:"index"`
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"rejected"`
}

func send(ctx context.Context, o Options, b batch) (accepted int, refused []Refusal, err error) {
	if len(b.lines) == 0 {
		return 0, nil, nil
	}
	got, err := backoff.Retry(ctx, func() (answer, error) { return try(ctx, o, b.body) },
		backoff.WithBackOff(backoff.NewExponentialBackOff()), backoff.WithMaxElapsedTime(o.GiveUpAfter))
	if err != nil {
		return 0, nil, fmt.Errorf("importing lines %d to %d: %w", b.lines[0], b.last, err)
	}
	for _, r := range got.Rejected {
		if r.Index >= 0 && r.Index < len(b.lines) {
			refused = append(refused, Refusal{Line: b.lines[r.Index], Code: r.Code, Detail: r.Message})
		}
	}
	return got.Accepted, refused, nil
}

// try sends a request once. Errors that a retry cannot mend are permanent.
func try(ctx context.Context, o Options, body []byte) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.URL+"/v1/import", bytes.NewReader(body))
	if err != nil {
		return answer{}, backoff.Permanent(fmt.Errorf("making the request: %w", err))
	}
	req.SetBasicAuth(o.WriteKey, "")
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Sillage-Verbose", "1")
	resp, err := o.Client.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("nothing answers at %s: start `sillage up`, or name the address with --url (%w)", o.URL, err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return answer{}, fmt.Errorf("reading the answer: %w", err)
	}
	return judge(resp, raw)
}

func judge(resp *http.Response, raw []byte) (answer, error) {
	var got answer
	decodeErr := json.Unmarshal(raw, &got)
	switch {
	case resp.StatusCode == http.StatusOK && decodeErr == nil:
		return got, nil
	case resp.StatusCode == http.StatusOK:
		return answer{}, backoff.Permanent(fmt.Errorf("reading the answer: %w", decodeErr))
	case resp.StatusCode == http.StatusUnauthorized:
		return answer{}, backoff.Permanent(errors.New("the write key is not known: apply a source with it, or use the key of one that there is (--source)"))
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= http.StatusInternalServerError:
		if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
			return answer{}, backoff.RetryAfter(seconds)
		}
		return answer{}, fmt.Errorf("ingest answers %s: %s", resp.Status, got.Message)
	default:
		return answer{}, backoff.Permanent(fmt.Errorf("ingest answers %s: %s", resp.Status, got.Message))
	}
}
