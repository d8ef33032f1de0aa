// Package importer sends files of events to the import endpoint of ingest.
//
// A file holds one event a line, as the tracking API takes them, each with its `timestamp`. The same
// file may be sent any number of times: ingest derives the id of an event that has none from its
// content, and identity drops what it has seen. A line that is no JSON object, or that ingest refuses,
// is reported with its number and costs nothing else; an answer that asks to wait is obeyed.
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
)

// Options say where and how to import.
type Options struct {
	// URL is where ingest listens, for example `http://127.0.0.1:8080`.
	URL string
	// WriteKey is the write key of the source.
	WriteKey string
	// Parallel is how many requests are in flight at most. Default 4.
	Parallel int
	// BatchEvents and BatchBytes bound one request. Defaults 500 events and 4 MiB.
	BatchEvents, BatchBytes int
	// GiveUpAfter bounds the tries of one request. Default 5 minutes.
	GiveUpAfter time.Duration
	// Progress is told how many lines were answered, from several goroutines; may be nil.
	Progress func(lines int)
	// Client sends the requests; nil takes http.DefaultClient.
	Client *http.Client
}

func (o Options) withDefaults() Options {
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
	return o
}

// Refusal is a line that was not taken.
type Refusal struct {
	// Line is its number, from 1.
	Line int
	// Code is why, in a word.
	Code string
}

// Result is what became of the lines.
type Result struct {
	// Accepted is how many events ingest took; an event that it had before counts again.
	Accepted int
	// Refused is how many lines were not taken; Refusals holds the first maxRefusals of them.
	Refused  int
	Refusals []Refusal
}

// maxRefusals bounds the refusals that are listed one by one.
const maxRefusals = 1000

// Import sends every line of r. The error is about the import as a whole (ingest cannot be reached, the
// key is wrong); what was accepted until then stands in the result.
func Import(ctx context.Context, r io.Reader, options Options) (Result, error) {
	o := options.withDefaults()
	tally := newTally()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(o.Parallel)
	readErr := batches(ctx, r, o, tally, func(b batch) {
		group.Go(func() error {
			if err := send(ctx, o, b, tally); err != nil {
				return err
			}
			o.Progress(len(b.lines))
			return nil
		})
	})
	sendErr := group.Wait()
	if sendErr != nil && errors.Is(readErr, context.Canceled) {
		readErr = nil // reading stopped because sending failed
	}
	return tally.result(), errors.Join(sendErr, readErr)
}

// answer is what ingest says with `X-Sillage-Verbose: 1`.
type answer struct {
	Success  bool   `json:"success"`
	Message  string `json:"message"`
	Accepted int    `json:"accepted"`
	Rejected []struct {
		Index int    `json:"index"`
		Code  string `json:"code"`
	} `json:"rejected"`
}

func send(ctx context.Context, o Options, b batch, tally *tally) error {
	got, err := backoff.Retry(ctx, func() (answer, error) { return try(ctx, o, b.body) },
		backoff.WithBackOff(backoff.NewExponentialBackOff()), backoff.WithMaxElapsedTime(o.GiveUpAfter))
	if err != nil {
		return fmt.Errorf("importing lines %d to %d: %w", b.lines[0], b.lines[len(b.lines)-1], err)
	}
	tally.accept(got.Accepted)
	for _, r := range got.Rejected {
		if r.Index >= 0 && r.Index < len(b.lines) {
			tally.refuse(b.lines[r.Index], r.Code)
		}
	}
	return nil
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
