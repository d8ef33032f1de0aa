package pressure_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	journeyv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/journey/v1"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/pressure"
)

var start = time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)

func entry(at time.Time, channel, category string, send uint64) *journeyv1.PressureEntry {
	return &journeyv1.PressureEntry{AtMs: at.UnixMilli(), Channel: channel, Category: category, Send: send}
}

func TestCheck(t *testing.T) {
	ledger := &journeyv1.PressureLedger{Entries: []*journeyv1.PressureEntry{
		entry(start.Add(-8*24*time.Hour), "email", "marketing", 1),
		entry(start.Add(-24*time.Hour), "email", "marketing", 2),
		entry(start.Add(-time.Hour), "sms", "service", 3),
	}}
	week := 7 * 24 * time.Hour
	for _, c := range []struct {
		name string
		cap  pressure.Cap
		want string
	}{
		{"two of two in a week", pressure.Cap{Name: "week", Max: 2, Within: week}, "cap:week"},
		{"two of three in a week", pressure.Cap{Name: "week", Max: 3, Within: week}, ""},
		{"one of two on the channel", pressure.Cap{Name: "mail", Channel: "email", Max: 2, Within: week}, ""},
		{"another channel", pressure.Cap{Name: "post", Channel: "post", Max: 0, Within: week}, ""},
		{"another category", pressure.Cap{Name: "service", Category: "service", Max: 1, Within: week}, ""},
		{"never", pressure.Cap{Name: "never", Max: 0, Within: week}, "cap:never"},
		{"the old end is out", pressure.Cap{Name: "day", Channel: "email", Max: 1, Within: 24 * time.Hour}, ""},
		{"just within", pressure.Cap{Name: "day", Channel: "email", Max: 1, Within: 24*time.Hour + time.Millisecond}, "cap:day"},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, pressure.Check([]pressure.Cap{c.cap}, ledger, "email", "marketing", start))
		})
	}
	require.Empty(t, pressure.Check(nil, ledger, "email", "marketing", start), "no caps, no limit")
}

// TestFull: a ledger that cannot remember one more refuses it rather than forgets one that counts.
func TestFull(t *testing.T) {
	caps := []pressure.Cap{{Name: "huge", Max: 1 << 20, Within: 365 * 24 * time.Hour}}
	ledger := &journeyv1.PressureLedger{}
	for i := range pressure.MaxEntries {
		ledger.Entries = append(ledger.Entries, entry(start.Add(time.Duration(i)*time.Second), "email", "marketing", uint64(i)))
	}
	now := start.Add(2 * time.Hour)
	require.Equal(t, pressure.ReasonFull, pressure.Check(caps, ledger, "email", "marketing", now))
	require.Empty(t, pressure.Check(caps, ledger, "email", "marketing", now.Add(365*24*time.Hour)), "a year later nothing counts any more")
}

func drawCaps(t *rapid.T) []pressure.Cap {
	n := rapid.IntRange(1, 4).Draw(t, "caps")
	caps := make([]pressure.Cap, n)
	for i := range caps {
		caps[i] = pressure.Cap{
			Name:     fmt.Sprintf("c%d", i),
			Channel:  rapid.SampledFrom([]string{"", "", "email", "sms"}).Draw(t, "channel"),
			Category: rapid.SampledFrom([]string{"", "", "marketing", "service"}).Draw(t, "category"),
			Max:      rapid.IntRange(0, 90).Draw(t, "max"),
			Within:   time.Duration(rapid.IntRange(1, 60*24).Draw(t, "within")) * time.Hour,
		}
	}
	return caps
}

// TestNeverExceeded lets random sends through Check and counts, for each one let through and each cap,
// what lies in the window that ends with it, over everything ever sent. It also requires that nothing is
// refused without need, and that ledgers which were parted and merged decide like one that never was.
func TestNeverExceeded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		caps := drawCaps(t)
		ledgers := []*journeyv1.PressureLedger{{}, {}}
		var sent []*journeyv1.PressureEntry
		now, merged := start, false
		for i := range rapid.IntRange(1, 200).Draw(t, "sends") {
			now = now.Add(time.Duration(rapid.IntRange(0, 36*3600).Draw(t, "gap")) * time.Second)
			if !merged && rapid.IntRange(0, 40).Draw(t, "merge?") == 0 {
				pressure.Merge(caps, ledgers[0], ledgers[1], now)
				pressure.Merge(caps, ledgers[0], ledgers[1], now)
				merged = true
			}
			which := 0
			if !merged {
				which = rapid.IntRange(0, 1).Draw(t, "profile")
			}
			e := entry(now, rapid.SampledFrom([]string{"email", "sms"}).Draw(t, "channel"), rapid.SampledFrom([]string{"marketing", "service"}).Draw(t, "category"), uint64(i+1))
			reason := pressure.Check(caps, ledgers[which], e.GetChannel(), e.GetCategory(), now)
			if merged {
				require.Equal(t, oracle(caps, sent, e), reason)
			}
			if reason == "" {
				pressure.Add(caps, ledgers[which], e, now)
				sent = append(sent, e)
			}
			require.LessOrEqual(t, len(ledgers[which].GetEntries()), pressure.MaxEntries)
		}
	})
}

// oracle counts every send ever made.
func oracle(caps []pressure.Cap, sent []*journeyv1.PressureEntry, next *journeyv1.PressureEntry) string {
	for _, c := range caps {
		if (c.Channel != "" && c.Channel != next.GetChannel()) || (c.Category != "" && c.Category != next.GetCategory()) {
			continue
		}
		count := 0
		for _, e := range sent {
			in := e.GetAtMs() > next.GetAtMs()-c.Within.Milliseconds()
			if in && (c.Channel == "" || c.Channel == e.GetChannel()) && (c.Category == "" || c.Category == e.GetCategory()) {
				count++
			}
		}
		if count >= c.Max {
			return "cap:" + c.Name
		}
	}
	return ""
}

func BenchmarkCheck(b *testing.B) {
	caps := []pressure.Cap{{Name: "week", Max: 3, Within: 7 * 24 * time.Hour}, {Name: "month", Max: 8, Within: 30 * 24 * time.Hour}}
	ledger := &journeyv1.PressureLedger{}
	for i := range 60 {
		pressure.Add(caps, ledger, entry(start.Add(time.Duration(i)*time.Hour), "email", "marketing", uint64(i)), start)
	}
	now := start.Add(60 * time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		pressure.Check(caps, ledger, "email", "marketing", now)
	}
}
