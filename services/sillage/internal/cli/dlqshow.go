package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/sillage-cdp/sillage/pkg/stream/dlq"
	"github.com/sillage-cdp/sillage/pkg/topics"
)

// dlqShowCmd is `sillage dlq show`.
type dlqShowCmd struct {
	letterBox
	letterFilter
	Stage   string `arg:"" help:"Stage, as ls prints it."`
	Limit   int    `help:"At most so many; 0 for all." default:"20"`
	All     bool   `help:"Also those that have been put back."`
	JSON    bool   `name:"json" help:"Print JSON Lines."`
	Payload bool   `help:"Print personal data, too: key, value, headers, and the reason with what it quotes. Without this flag none of it is shown."`
}

// letterView is a dead letter as it is shown. What is personal data is there only on demand.
type letterView struct {
	Stage     string     `json:"stage"`
	Place     string     `json:"place"`
	At        time.Time  `json:"at"`
	Class     string     `json:"class"`
	Reason    string     `json:"reason"`
	Tenant    string     `json:"tenant,omitempty"`
	Topic     string     `json:"topic,omitempty"`
	Partition int32      `json:"partition"`
	Offset    int64      `json:"offset"`
	Timestamp time.Time  `json:"timestamp"`
	TimerDue  *time.Time `json:"timer_due,omitempty"`
	Bytes     int        `json:"bytes"`
	Dropped   int64      `json:"dropped_bytes,omitempty"`
	Replayed  bool       `json:"replayed"`

	Payload *payloadView `json:"payload,omitempty"`
}

// payloadView is the personal data of a letter. Value is its JSON if the message is known, and else text
// or bytes.
type payloadView struct {
	Key     string            `json:"key"`
	TimerID string            `json:"timer_id,omitempty"`
	Value   json.RawMessage   `json:"value,omitempty"`
	Bytes   []byte            `json:"value_base64"`
	Headers map[string][]byte `json:"headers_base64,omitempty"`
}

// Run prints the letters.
func (c *dlqShowCmd) Run(ctx context.Context, streams Streams) error {
	filter, err := c.filter(time.Now())
	if err != nil {
		return err
	}
	filter.Waiting = !c.All
	box, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer box.Close()
	shown := 0
	err = box.Scan(ctx, c.Stage, filter, func(l *dlq.Letter) error {
		if c.Limit > 0 && shown == c.Limit {
			fmt.Fprintf(streams.Err, "… more than %d: narrow them down or raise --limit\n", c.Limit)
			return dlq.ErrStop
		}
		shown++
		view := newLetterView(l, c.Payload)
		if c.JSON {
			return json.NewEncoder(streams.Out).Encode(view)
		}
		view.print(streams.Out)
		return nil
	})
	if err == nil && shown == 0 && !c.JSON {
		fmt.Fprintln(streams.Out, "no such letters")
	}
	return err
}

func newLetterView(l *dlq.Letter, payload bool) letterView {
	view := letterView{
		Stage: l.Topology, Place: l.Place(), At: l.At.UTC(), Class: l.Class, Reason: dlq.Redact(l.Reason), Replayed: l.Replayed,
		Topic: l.Record.Topic, Partition: l.Record.Partition, Offset: l.Record.Offset, Timestamp: l.Record.Timestamp.UTC(),
		Bytes: len(l.Record.Value), Dropped: l.Dropped,
	}
	if tenant, _, ok := topics.SplitKey(l.Record.Key); ok {
		view.Tenant = tenant
	}
	if l.Record.Topic == "" {
		due := l.TimerDue.UTC()
		view.TimerDue = &due
	}
	if l.Unreadable != nil {
		view.Class, view.Reason = "unreadable", l.Unreadable.Error()
	}
	if !payload {
		return view
	}
	view.Reason = l.Reason
	view.Payload = &payloadView{Key: string(l.Record.Key), TimerID: l.TimerID, Bytes: l.Record.Value, Value: decoded(l.Record.Topic, l.Record.Value)}
	for _, h := range l.Record.Headers {
		if view.Payload.Headers == nil {
			view.Payload.Headers = make(map[string][]byte)
		}
		view.Payload.Headers[h.Key] = h.Value
	}
	return view
}

// decoded is a value of a topic of the catalogue as JSON, nil if it cannot be read as what the catalogue says.
func decoded(topic string, value []byte) json.RawMessage {
	for _, t := range topics.All() {
		if t.Name != topic {
			continue
		}
		kind, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(t.Message))
		if err != nil {
			return nil
		}
		message := kind.New().Interface()
		if proto.Unmarshal(value, message) != nil {
			return nil
		}
		text, err := protojson.Marshal(message)
		if err != nil {
			return nil
		}
		return text
	}
	return nil
}

func (v *letterView) print(w io.Writer) {
	from := fmt.Sprintf("from %s %d/%d", v.Topic, v.Partition, v.Offset)
	if v.TimerDue != nil {
		from = "timer due " + stamp(*v.TimerDue)
	}
	done := ""
	if v.Replayed {
		done = "  (put back)"
	}
	fmt.Fprintf(w, "%s  %s  %s  tenant %s  %d bytes%s\n  %s: %s\n", v.Place, stamp(v.At), from, v.Tenant, v.Bytes, done, v.Class, v.Reason)
	if v.Dropped > 0 {
		fmt.Fprintf(w, "  %d bytes did not fit; the original is where it came from\n", v.Dropped)
	}
	if v.Payload == nil {
		return
	}
	fmt.Fprintf(w, "  key   %q\n", v.Payload.Key)
	if v.TimerDue != nil {
		fmt.Fprintf(w, "  timer %q\n", v.Payload.TimerID)
	}
	for key, value := range v.Payload.Headers {
		fmt.Fprintf(w, "  header %s: %q\n", key, value)
	}
	switch {
	case v.Payload.Value != nil:
		fmt.Fprintf(w, "  value %s\n", v.Payload.Value)
	case utf8.Valid(v.Payload.Bytes):
		fmt.Fprintf(w, "  value %q\n", v.Payload.Bytes)
	default:
		fmt.Fprintf(w, "  value %x\n", v.Payload.Bytes)
	}
}
