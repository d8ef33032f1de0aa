package quiet_test

import (
	"fmt"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/quiet"
)

func zone(t require.TestingT, name string) *time.Location {
	loc, err := time.LoadLocation(name)
	require.NoError(t, err)
	return loc
}

func tod(t require.TestingT, s string) quiet.TimeOfDay {
	v, err := quiet.ParseTimeOfDay(s)
	require.NoError(t, err)
	return v
}

func at(t require.TestingT, s string) time.Time {
	v, err := time.Parse(time.RFC3339, s)
	require.NoError(t, err)
	return v
}

func TestParseTimeOfDay(t *testing.T) {
	require.Equal(t, quiet.TimeOfDay(9*60+5), tod(t, "09:05"))
	for _, bad := range []string{"", "9:05", "24:00", "12:60", "12h", "12:00:00", "noon"} {
		_, err := quiet.ParseTimeOfDay(bad)
		require.ErrorContains(t, err, "HH:MM", bad)
	}
}

// TestNextAtChanges covers the nights on which Paris changes its clocks: 2026-03-29 02:00 to 03:00 and
// 2026-10-25 03:00 back to 02:00.
func TestNextAtChanges(t *testing.T) {
	paris := zone(t, "Europe/Paris")
	for _, c := range []struct{ name, now, tod, want string }{
		{"plain", "2026-03-28T08:00:00+01:00", "09:00", "2026-03-28T09:00:00+01:00"},
		{"exactly now is tomorrow", "2026-03-27T09:00:00+01:00", "09:00", "2026-03-28T09:00:00+01:00"},
		{"over the spring change", "2026-03-28T10:00:00+01:00", "09:00", "2026-03-29T09:00:00+02:00"},
		{"skipped time is the change", "2026-03-28T10:00:00+01:00", "02:30", "2026-03-29T03:00:00+02:00"},
		{"after the skipped time", "2026-03-29T03:00:00+02:00", "02:30", "2026-03-30T02:30:00+02:00"},
		{"repeated time: the first", "2026-10-25T01:00:00+02:00", "02:30", "2026-10-25T02:30:00+02:00"},
		{"repeated time: not the second", "2026-10-25T02:30:00+02:00", "02:30", "2026-10-26T02:30:00+01:00"},
		{"over the autumn change", "2026-10-24T10:00:00+02:00", "09:00", "2026-10-25T09:00:00+01:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := quiet.Next(at(t, c.now), tod(t, c.tod), paris)
			require.Equal(t, at(t, c.want).UTC(), got.UTC())
		})
	}
}

func TestEndAtChanges(t *testing.T) {
	paris := zone(t, "Europe/Paris")
	for _, c := range []struct{ name, now, from, to, end string }{
		{"evening", "2026-03-27T21:00:00+01:00", "20:00", "08:00", "2026-03-28T08:00:00+01:00"},
		{"first minute", "2026-03-27T20:00:00+01:00", "20:00", "08:00", "2026-03-28T08:00:00+01:00"},
		{"before", "2026-03-27T19:59:59+01:00", "20:00", "08:00", ""},
		{"the end is out", "2026-03-27T08:00:00+01:00", "20:00", "08:00", ""},
		{"through the short night", "2026-03-28T21:00:00+01:00", "20:00", "08:00", "2026-03-29T08:00:00+02:00"},
		{"through the long night", "2026-10-24T21:00:00+02:00", "20:00", "08:00", "2026-10-25T08:00:00+01:00"},
		{"end skipped", "2026-03-29T01:59:00+01:00", "22:00", "02:30", "2026-03-29T03:00:00+02:00"},
		{"end repeated: the first", "2026-10-25T02:00:00+02:00", "22:00", "02:30", "2026-10-25T02:30:00+02:00"},
		{"end repeated: within again", "2026-10-25T02:10:00+01:00", "22:00", "02:30", "2026-10-25T02:30:00+01:00"},
		{"within a day", "2026-03-27T12:30:00+01:00", "12:00", "14:00", "2026-03-27T14:00:00+01:00"},
		{"empty", "2026-03-27T12:00:00+01:00", "12:00", "12:00", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			end, within := quiet.Hours{From: tod(t, c.from), To: tod(t, c.to)}.End(at(t, c.now), paris)
			require.Equal(t, c.end != "", within)
			if within {
				require.Equal(t, at(t, c.end).UTC(), end.UTC())
			}
		})
	}
}

// TestMinuteByMinute compares Next and End with a walk over the minutes, around changes of clocks of an
// hour, of half an hour (Lord Howe), at midnight (Beirut) and of a whole day (Apia skipped 30 December 2011).
func TestMinuteByMinute(t *testing.T) {
	changes := []struct{ zone, change string }{
		{"Europe/Paris", "2026-03-29T01:00:00Z"}, {"Europe/Paris", "2026-10-25T01:00:00Z"},
		{"Australia/Lord_Howe", "2026-10-03T15:30:00Z"}, {"Australia/Lord_Howe", "2026-04-04T15:00:00Z"},
		{"Asia/Beirut", "2024-03-30T22:00:00Z"}, {"America/New_York", "2026-11-01T06:00:00Z"},
		{"Pacific/Apia", "2011-12-30T10:00:00Z"}, {"Asia/Kolkata", "2026-01-01T00:00:00Z"},
	}
	zones := map[string]*time.Location{}
	for _, c := range changes {
		zones[c.zone] = zone(t, c.zone)
	}
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.SampledFrom(changes).Draw(t, "change")
		loc := zones[c.zone]
		now := at(t, c.change).Add(time.Duration(rapid.IntRange(-36*60, 36*60).Draw(t, "minutes")) * time.Minute)
		hours := quiet.Hours{From: quiet.TimeOfDay(rapid.IntRange(0, 1439).Draw(t, "from")), To: quiet.TimeOfDay(rapid.IntRange(0, 1439).Draw(t, "to"))}
		end, within := hours.End(now, loc)
		if within {
			require.True(t, end.After(now))
			_, still := hours.End(end, loc)
			if skipped := end.In(loc).Format("15:04") != wall(hours.To); !skipped {
				require.False(t, still, "still quiet at the end %v", end)
			}
			for m := now; m.Before(end); m = m.Add(time.Minute) {
				_, in := hours.End(m, loc)
				require.True(t, in, "out at %v, before the end %v", m, end)
			}
		}
		next := quiet.Next(now, hours.To, loc)
		require.True(t, next.After(now))
		require.LessOrEqual(t, next.Sub(now), 50*time.Hour)
		for m := now.Add(time.Minute); m.Before(next); m = m.Add(time.Minute) {
			local := m.In(loc)
			if quiet.TimeOfDay(local.Hour()*60+local.Minute()) == hours.To {
				require.Equal(t, now.In(loc).Format("2006-01-02"), local.Format("2006-01-02"), "passed over %v", local)
				require.True(t, repeated(local), "passed over %v", local)
			}
		}
	})
}

func wall(t quiet.TimeOfDay) string { return fmt.Sprintf("%02d:%02d", int(t)/60, int(t)%60) }

// repeated says whether the clocks showed the same before t.
func repeated(t time.Time) bool {
	for _, back := range []time.Duration{30 * time.Minute, time.Hour, 24 * time.Hour} {
		if t.Add(-back).Format("2006-01-02 15:04") == t.Format("2006-01-02 15:04") {
			return true
		}
	}
	return false
}
