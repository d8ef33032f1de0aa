package stream_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
)

// visits counts the visits of a key and reports them after half an hour without one.
type visits struct{}

func (visits) Process(ctx *stream.Context, _ stream.Record) error {
	ctx.Put("n", binary.BigEndian.AppendUint64(nil, count(ctx.Get)+1))
	ctx.SetTimer("over", ctx.Now().Add(30*time.Minute), nil)
	return nil
}

func (visits) Timer(ctx *stream.Context, _ stream.Timer) error {
	ctx.Emit("sessions", ctx.Key(), fmt.Appendf(nil, "%d visits", count(ctx.Get)))
	ctx.Delete("n")
	return nil
}

func (visits) Merge(dst *stream.Context, src *stream.Source) error {
	dst.Put("n", binary.BigEndian.AppendUint64(nil, count(dst.Get)+count(src.Get)))
	dst.SetTimer("over", dst.Now().Add(30*time.Minute), nil)
	return nil
}

func count(get func(string) ([]byte, bool)) uint64 {
	if v, ok := get("n"); ok {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func topology() stream.Topology {
	return stream.Topology{
		Name: "visits", Inputs: []string{"pages"}, Outputs: []string{"sessions"},
		New: func() stream.Processor { return visits{} },
	}
}

// A runner works until it is told to stop; start as many instances as there are partitions.
func ExampleRunner() { //nolint:testableexamples // it works until it is told to stop
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	cfg := stream.Config{Kafka: kafka.NewDefaultConfig(), DataDir: "/var/lib/visits"}
	runner, err := stream.NewRunner(topology(), cfg, stream.Deps{
		Clock: clock.System{}, Logger: slog.Default(), Telemetry: telemetry.Nop(),
	})
	if err == nil {
		err = runner.Start(ctx)
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	select {
	case <-ctx.Done():
	case err := <-runner.Failed():
		fmt.Println(err)
	}
	_ = runner.Stop(context.Background())
}

// A driver runs the same topology in memory, with a clock that is moved by hand.
func ExampleDriver() {
	driver, err := stream.NewDriver(stream.DriverConfig{}, topology())
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 3 {
		_ = driver.Send("pages", []byte("ann"), []byte("/home"))
	}
	_ = driver.Advance(driver.Now().Add(time.Hour))
	for _, rec := range driver.Output("sessions") {
		fmt.Printf("%s: %s\n", rec.Key, rec.Value)
	}
	// Output: ann: 3 visits
}

// Keys that turn out to be one: a record of the ending key says so, and its state follows it.
func ExampleTopology_merges() {
	top := topology()
	top.Merges = func(rec stream.Record) stream.Merge {
		if into, ok := strings.CutPrefix(string(rec.Value), "is "); ok {
			return stream.Merge{Kind: stream.MergeInto, Other: []byte(into), ID: string(rec.Key) + ">" + into}
		}
		return stream.Merge{}
	}
	driver, err := stream.NewDriver(stream.DriverConfig{}, top)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, page := range [][2]string{{"device-7", "/home"}, {"ann", "/home"}, {"device-7", "is ann"}, {"device-7", "/late"}} {
		_ = driver.Send("pages", []byte(page[0]), []byte(page[1]))
	}
	_ = driver.Advance(driver.Now().Add(time.Hour))
	for _, rec := range driver.Output("sessions") {
		fmt.Printf("%s: %s\n", rec.Key, rec.Value)
	}
	// Output: ann: 4 visits
}

// A timer is set under an id, moved by setting it again, and fires once.
func ExampleContext_SetTimer() {
	driver, err := stream.NewDriver(stream.DriverConfig{}, topology())
	if err != nil {
		fmt.Println(err)
		return
	}
	send := func() { _ = driver.Send("pages", []byte("ann"), []byte("/home")) }
	send()
	_ = driver.Advance(driver.Now().Add(20 * time.Minute))
	send() // moves the end of the session
	_ = driver.Advance(driver.Now().Add(20 * time.Minute))
	fmt.Println(len(driver.Output("sessions")))
	_ = driver.Advance(driver.Now().Add(10 * time.Minute))
	fmt.Println(string(driver.Output("sessions")[0].Value))
	// Output:
	// 0
	// 2 visits
}

// A record that cannot be handled is undone, kept with its reason, and holds up nothing.
func ExampleDeadLetter() {
	top := topology()
	top.New = func() stream.Processor { return picky{} }
	driver, err := stream.NewDriver(stream.DriverConfig{}, top)
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = driver.Send("pages", []byte("ann"), []byte("/home"))
	_ = driver.Send("pages", []byte("ann"), nil)
	_ = driver.Send("pages", []byte("ann"), []byte("/buy"))
	n, _ := driver.State("visits", []byte("ann"), "n")
	for _, letter := range driver.DeadLetters() {
		fmt.Println(letter.Class, letter.Reason, letter.Record.Offset)
	}
	fmt.Println(binary.BigEndian.Uint64(n))
	// Output:
	// error a page without an address 1
	// 2
}

// picky counts visits of pages that have an address.
type picky struct{ visits }

func (p picky) Process(ctx *stream.Context, rec stream.Record) error {
	if err := p.visits.Process(ctx, rec); err != nil {
		return err
	}
	if len(rec.Value) == 0 {
		return errors.New("a page without an address")
	}
	return nil
}
