package tail

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/topics"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	ingestv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ingest/v1"
	ledgerv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ledger/v1"
)

func record(t *testing.T, topic string, key []byte, m interface{ MarshalVT() ([]byte, error) }) *kgo.Record {
	t.Helper()
	raw, err := m.MarshalVT()
	require.NoError(t, err)
	return &kgo.Record{Topic: topic, Key: key, Value: raw}
}

// No name of a tenant that is like another's, and no key that is odd, shows anything.
func TestOtherTenantsAreNeverShown(t *testing.T) {
	show := filter{&ingestv1.TailRequest{Tenant: "bank", Payload: true}}
	for _, key := range []string{
		"bank2/x", "Bank/x", "ban/x", "b/x", "bank /x", " bank/x", "bank\x00/x", "shop/bank/x", "/bank/x", "bank", "", "shop/x", "%62ank/x", "bànk/x",
	} {
		for _, r := range []*kgo.Record{
			record(t, topics.Events, []byte(key), &eventv1.Event{Tenant: "bank", Source: "web", MessageId: "m"}),
			record(t, topics.Ledger, []byte(key), &ledgerv1.LedgerEntry{Tenant: "bank", Source: "web", MessageId: "m"}),
		} {
			entry, err := show.entry(r)
			require.NoError(t, err)
			require.Nil(t, entry, "%q", key)
		}
	}
	own, err := show.entry(record(t, topics.Events, []byte("bank/a/b"), &eventv1.Event{Tenant: "bank", MessageId: "m"}))
	require.NoError(t, err)
	require.Equal(t, "m", own.GetMessageId())
}

// What is shown is what was asked for, with its own fate.
func TestWhatIsShown(t *testing.T) {
	key := []byte("bank/x")
	event := func(source, name string, internal bool) *kgo.Record {
		return record(t, topics.Events, key, &eventv1.Event{Tenant: "bank", Source: source, Name: name, Internal: internal, MessageId: "m"})
	}
	refusal := func(source string, fate ledgerv1.Fate) *kgo.Record {
		return record(t, topics.Ledger, key, &ledgerv1.LedgerEntry{Tenant: "bank", Source: source, Fate: fate, MessageId: "m", Reason: "why", Detail: "more"})
	}
	const rejected = ledgerv1.Fate_FATE_REJECTED
	for name, c := range map[string]struct {
		req    *ingestv1.TailRequest
		record *kgo.Record
		want   bool
	}{
		"all":                        {&ingestv1.TailRequest{}, event("web", "Seen", false), true},
		"the product's own":          {&ingestv1.TailRequest{}, event("web", "Seen", true), false},
		"of the name":                {&ingestv1.TailRequest{Name: "Seen"}, event("web", "Seen", false), true},
		"of another name":            {&ingestv1.TailRequest{Name: "Seen"}, event("web", "Bought", false), false},
		"of another source":          {&ingestv1.TailRequest{Source: "app"}, event("web", "Seen", false), false},
		"accepted, refusals only":    {&ingestv1.TailRequest{RefusedOnly: true}, event("web", "Seen", false), false},
		"refused, of the source":     {&ingestv1.TailRequest{Source: "web", RefusedOnly: true}, refusal("web", rejected), true},
		"refused, of another source": {&ingestv1.TailRequest{Source: "app"}, refusal("web", rejected), false},
		"refused, by name":           {&ingestv1.TailRequest{Name: "Seen"}, refusal("web", rejected), true}, // the ledger does not know it
	} {
		c.req.Tenant = "bank"
		entry, err := filter{c.req}.entry(c.record)
		require.NoError(t, err, name)
		require.Equal(t, c.want, entry != nil, name)
		require.Nil(t, entry.GetEvent(), "personal data only on demand")
	}
	for fate, want := range map[ledgerv1.Fate]ingestv1.TailFate{
		rejected: ingestv1.TailFate_TAIL_FATE_REJECTED, ledgerv1.Fate_FATE_DEDUPLICATED: ingestv1.TailFate_TAIL_FATE_DEDUPLICATED,
		ledgerv1.Fate_FATE_SUPPRESSED: ingestv1.TailFate_TAIL_FATE_SUPPRESSED,
	} {
		entry, err := filter{&ingestv1.TailRequest{Tenant: "bank"}}.entry(refusal("web", fate))
		require.NoError(t, err)
		require.Equal(t, want, entry.GetFate())
		require.Equal(t, "why: more", entry.GetReason()+": "+entry.GetDetail())
	}
}
