package stream_test

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/sillage-cdp/sillage/pkg/stream"
)

// visits counts the visits of a person and says goodbye after half an hour without one.
type visits struct{}

func (visits) Process(ctx *stream.Context, _ stream.Record) error {
	var n uint64
	if v, ok := ctx.Get("visits"); ok {
		n = binary.BigEndian.Uint64(v)
	}
	ctx.Put("visits", binary.BigEndian.AppendUint64(nil, n+1))
	ctx.SetTimer("goodbye", ctx.Now().Add(30*time.Minute), nil)
	return nil
}

func (visits) Timer(ctx *stream.Context, _ stream.Timer) error {
	v, _ := ctx.Get("visits")
	ctx.Emit("goodbyes", ctx.Key(), fmt.Appendf(nil, "%d visits", binary.BigEndian.Uint64(v)))
	return nil
}

func (visits) Merge(dst *stream.Context, src *stream.Source) error {
	var n uint64
	for _, get := range []func(string) ([]byte, bool){dst.Get, src.Get} {
		if v, ok := get("visits"); ok {
			n += binary.BigEndian.Uint64(v)
		}
	}
	dst.Put("visits", binary.BigEndian.AppendUint64(nil, n))
	return nil
}

func Example() {
	driver, err := stream.NewDriver(stream.DriverConfig{}, stream.Topology{
		Name: "visits", Inputs: []string{"events"}, Outputs: []string{"goodbyes"},
		New: func() stream.Processor { return visits{} },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 3 {
		if err := driver.Send("events", []byte("tenant/ann"), []byte("page")); err != nil {
			fmt.Println(err)
		}
	}
	if err := driver.Advance(driver.Now().Add(time.Hour)); err != nil {
		fmt.Println(err)
	}
	for _, rec := range driver.Output("goodbyes") {
		fmt.Printf("%s: %s\n", rec.Key, rec.Value)
	}
	// Output: tenant/ann: 3 visits
}
