package tail

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/topics"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	ingestv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ingest/v1"
	ledgerv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ledger/v1"
)

// filter is what a client wants to see.
type filter struct{ *ingestv1.TailRequest }

// entry is what a record shows; nil if the client does not want to see it. Records of other tenants are
// told by their key and never decoded.
func (f filter) entry(r *kgo.Record) (*ingestv1.TailResponse, error) {
	if tenant, _, ok := topics.SplitKey(r.Key); !ok || tenant != f.GetTenant() {
		return nil, nil //nolint:nilnil // nothing to show is no error
	}
	if r.Topic == topics.Ledger {
		return f.fate(r.Value)
	}
	return f.accepted(r.Value)
}

func (f filter) accepted(raw []byte) (*ingestv1.TailResponse, error) {
	if f.GetRefusedOnly() {
		return nil, nil //nolint:nilnil // nothing to show is no error
	}
	ev := &eventv1.Event{}
	if err := ev.UnmarshalVT(raw); err != nil {
		return nil, fmt.Errorf("decoding an event: %w", err)
	}
	if ev.GetInternal() || !f.wants(ev.GetSource(), ev.GetName()) {
		return nil, nil //nolint:nilnil // nothing to show is no error
	}
	shown := &ingestv1.TailResponse{
		Fate: ingestv1.TailFate_TAIL_FATE_ACCEPTED, Source: ev.GetSource(), Type: ev.GetType(), Name: ev.GetName(),
		MessageId: ev.GetMessageId(), ReceivedAtMs: ev.GetReceivedAtMs(),
	}
	if f.GetPayload() {
		shown.Event = ev
	}
	return shown, nil
}

func (f filter) fate(raw []byte) (*ingestv1.TailResponse, error) {
	var e ledgerv1.LedgerEntry
	if err := e.UnmarshalVT(raw); err != nil {
		return nil, fmt.Errorf("decoding a ledger entry: %w", err)
	}
	fates := map[ledgerv1.Fate]ingestv1.TailFate{
		ledgerv1.Fate_FATE_REJECTED:     ingestv1.TailFate_TAIL_FATE_REJECTED,
		ledgerv1.Fate_FATE_DEDUPLICATED: ingestv1.TailFate_TAIL_FATE_DEDUPLICATED,
		ledgerv1.Fate_FATE_SUPPRESSED:   ingestv1.TailFate_TAIL_FATE_SUPPRESSED,
	}
	// The ledger does not know the event's name.
	if !f.wants(e.GetSource(), f.GetName()) {
		return nil, nil //nolint:nilnil // nothing to show is no error
	}
	return &ingestv1.TailResponse{
		Fate: fates[e.GetFate()], Source: e.GetSource(), MessageId: e.GetMessageId(), ReceivedAtMs: e.GetReceivedAtMs(),
		Reason: e.GetReason(), Detail: e.GetDetail(),
	}, nil
}

func (f filter) wants(source, name string) bool {
	return (f.GetSource() == "" || f.GetSource() == source) && (f.GetName() == "" || f.GetName() == name)
}
