package timefix

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const (
	hour     = int64(time.Hour / time.Millisecond)
	received = int64(1_795_000_000_000)
)

func TestCorrect(t *testing.T) {
	day := 24 * time.Hour
	cases := map[string]struct {
		claim Claim
		want  Verdict
	}{
		"nothing said":                   {Claim{}, Verdict{received, false, Absent}},
		"sentAt alone":                   {Claim{SentMs: received}, Verdict{received, false, Absent}},
		"no sentAt":                      {Claim{OriginalMs: received - hour}, Verdict{received - hour, false, Trusted}},
		"clock right":                    {Claim{OriginalMs: received - hour, SentMs: received}, Verdict{received - hour, false, Corrected}},
		"clock two hours ahead":          {Claim{OriginalMs: received + hour, SentMs: received + 2*hour}, Verdict{received - hour, false, Corrected}},
		"clock two hours behind":         {Claim{OriginalMs: received - 3*hour, SentMs: received - 2*hour}, Verdict{received - hour, false, Corrected}},
		"sent before it happened":        {Claim{OriginalMs: received, SentMs: received - 1}, Verdict{received, false, Negative}},
		"clock a day and an hour behind": {Claim{OriginalMs: received - 26*hour, SentMs: received - 25*hour}, Verdict{received, false, Skewed}},
		"clock in 2009":                  {Claim{OriginalMs: 1_257_894_000_000, SentMs: 1_257_894_000_000}, Verdict{received, false, Skewed}},
		"four minutes ahead":             {Claim{OriginalMs: received + 240_000}, Verdict{received + 240_000, false, Trusted}},
		"six minutes ahead":              {Claim{OriginalMs: received + 360_000}, Verdict{received + 300_000, false, Clamped}},
		"old":                            {Claim{OriginalMs: received - 25*hour}, Verdict{received - 25*hour, true, Trusted}},
		"long in the queue":              {Claim{OriginalMs: received - 48*hour, SentMs: received}, Verdict{received - 48*hour, true, Corrected}},
		"import":                         {Claim{OriginalMs: received - hour, Import: true}, Verdict{received - hour, true, Trusted}},
		"import with sentAt":             {Claim{OriginalMs: received - 9000*hour, SentMs: received - 8000*hour, Import: true}, Verdict{received - 9000*hour, true, Trusted}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			c.claim.ReceivedMs, c.claim.HistoryAfter = received, day
			require.Equal(t, c.want, Correct(c.claim))
		})
	}
}

// Whatever the error of the producer's clock (up to a day), the event is placed when it truly happened.
func TestClockErrorCancels(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		skew := rapid.Int64Range(-24*hour, 24*hour).Draw(t, "skew")
		waited := rapid.Int64Range(0, 1000*hour).Draw(t, "waited")
		got := Correct(Claim{OriginalMs: received - waited + skew, SentMs: received + skew, ReceivedMs: received, HistoryAfter: 24 * time.Hour})
		require.Equal(t, Verdict{TimestampMs: received - waited, Historical: waited > 24*hour, Adjustment: Corrected}, got)
	})
}

func TestNeverBeyondTheGuards(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Claim{
			OriginalMs:   rapid.Int64Range(0, maxMs).Draw(t, "original"),
			SentMs:       rapid.Int64Range(0, maxMs).Draw(t, "sent"),
			ReceivedMs:   received,
			Import:       rapid.Bool().Draw(t, "import"),
			HistoryAfter: 24 * time.Hour,
		}
		got := Correct(c)
		require.LessOrEqual(t, got.TimestampMs, received+MaxFuture.Milliseconds())
		require.Equal(t, c.Import || received-got.TimestampMs > 24*hour, got.Historical)
		require.Equal(t, got, Correct(c))
		if c.Import {
			c.ReceivedMs += hour // read again an hour later, history has not moved
			again := Correct(c)
			if got.Adjustment == Trusted {
				require.Equal(t, got.TimestampMs, again.TimestampMs)
			}
		}
	})
}

// Two events of one request keep the order that the producer's clock gave them.
func TestOrderIsKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sent := received + rapid.Int64Range(-23*hour, 23*hour).Draw(t, "skew")
		first := sent - rapid.Int64Range(0, 100*hour).Draw(t, "first")
		second := rapid.Int64Range(first, sent).Draw(t, "second")
		a := Correct(Claim{OriginalMs: first, SentMs: sent, ReceivedMs: received})
		b := Correct(Claim{OriginalMs: second, SentMs: sent, ReceivedMs: received})
		require.LessOrEqual(t, a.TimestampMs, b.TimestampMs)
	})
}

func TestParse(t *testing.T) {
	want := time.Date(2026, 11, 21, 10, 15, 30, 0, time.UTC).UnixMilli()
	good := map[string]int64{
		"2026-11-21T10:15:30Z": want, "2026-11-21T10:15:30": want, "2026-11-21 10:15:30": want, "2026-11-21 10:15:30 UTC": want,
		"2026-11-21T10:15:30.123Z": want + 123, "2026-11-21T10:15:30.123456789Z": want + 123, "2026-11-21T10:15:30,1Z": want + 100,
		"2026-11-21T11:15:30+01:00": want, "2026-11-21T11:15:30+0100": want, "2026-11-21T11:15:30+01": want, "2026-11-21T05:45:30.000-0430": want,
		"2026-11-21T10:15Z": want - 30_000, "2026-11-21": want - (10*3600+15*60+30)*1000, "  2026-11-21T10:15:30Z ": want,
		"1795256130": 1_795_256_130_000, "1795256130123": 1_795_256_130_123, "1795256130.5": 1_795_256_130_500,
		"2024-02-29": time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC).UnixMilli(),
	}
	for text, want := range good {
		got, ok := Parse(text)
		require.True(t, ok, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{
		"", "yesterday", "2026-13-01", "2026-00-10", "2026-02-30", "2023-02-29", "2026-11-21T", "2026-11-21T25:00:00Z", "2026-11-21T10",
		"2026-11-21T10:60:00Z", "2026-11-21T10:15:61Z", "2026-11-21T10:15:30.Z", "2026-11-21T10:15:30+1", "2026-11-21T10:15:30+01:0", "2026-11-21T10:15:30+01:000",
		"2026-11-21X10:15:30Z", "1969-12-31T23:59:59Z", "0", "-5", "1e300", "NaN", "Inf", "0x10", "99999999999999999999", "21/11/2026", "Sat, 21 Nov 2026 10:15:30 GMT",
	} {
		_, ok := Parse(text)
		require.False(t, ok, text)
	}
}

func TestParseAgreesWithStandardLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ms := rapid.Int64Range(1, maxMs-24*hour).Draw(t, "ms")
		zone := time.FixedZone("", 60*rapid.IntRange(-14*60, 14*60).Draw(t, "minutes"))
		layout := rapid.SampledFrom([]string{time.RFC3339Nano, "2006-01-02T15:04:05.000Z07:00", "2006-01-02 15:04:05.000-0700"}).Draw(t, "layout")
		text := time.UnixMilli(ms).In(zone).Format(layout)
		if text[4] != '-' {
			return // the zone carried it into the year 10000
		}
		got, ok := Parse(text)
		require.True(t, ok, text)
		require.Equal(t, ms, got, text)
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"2026-11-21T10:15:30.123+01:00", "2026-11-21", "1795256130", "2026-11-21T10:15:30,", "----------"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ms, ok := Parse(s)
		require.False(t, ok && (ms < minMs || ms > maxMs))
	})
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Parse("2026-11-21T10:15:30.123Z")
	}
}
