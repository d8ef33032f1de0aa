// Package quiet reckons with times of day in a person's time zone: quiet hours, and waits until a time
// of day. It promises to be right on the days on which clocks change: a time of day that a change skips
// is the moment of the change, and one that happens twice is, for Next, its first occurrence.
//
// It takes `now` and a zone and reads no clock. TestMinuteByMinute compares it with a walk over every
// minute around the changes of several zones.
package quiet

import (
	"fmt"
	"time"
)

// TimeOfDay is a time of day in minutes since midnight, 0 to 1439.
type TimeOfDay int

// ParseTimeOfDay reads `HH:MM`, 00:00 to 23:59.
func ParseTimeOfDay(s string) (TimeOfDay, error) {
	t, err := time.Parse("15:04", s)
	if err != nil || len(s) != len("15:04") {
		return 0, fmt.Errorf("time of day %q is not HH:MM between 00:00 and 23:59", s)
	}
	return TimeOfDay(t.Hour()*60 + t.Minute()), nil
}

// Next is the first moment after now (never now itself) at which the clocks of loc come to tod, once a
// day: where a change of clocks repeats tod, only its first occurrence counts.
func Next(now time.Time, tod TimeOfDay, loc *time.Location) time.Time {
	year, month, day := now.In(loc).Date()
	for d := -1; ; d++ {
		if first := occurrences(date{year, month, day + d}, tod, loc)[0]; first.After(now) {
			return first
		}
	}
}

// Hours are hours of the day: from From up to, not including, To; past midnight if To is before From.
// Hours with From equal to To are empty.
type Hours struct {
	From, To TimeOfDay
}

// End says whether now lies within the hours in loc, and if so the moment at which they end: the next
// moment at which the clocks come to To, or are put back to before From.
func (h Hours) End(now time.Time, loc *time.Location) (end time.Time, within bool) {
	local := now.In(loc)
	if !h.contain(local) {
		return time.Time{}, false
	}
	end = h.nextTo(now, local, loc)
	if _, change := local.ZoneBounds(); !change.IsZero() && change.Before(end) && !h.contain(change.In(loc)) {
		end = change
	}
	return end, true
}

// contain says whether the clocks show a time within the hours.
func (h Hours) contain(local time.Time) bool {
	minute := TimeOfDay(local.Hour()*60 + local.Minute())
	if h.From <= h.To {
		return h.From <= minute && minute < h.To
	}
	return h.From <= minute || minute < h.To
}

// nextTo is the next moment at which the clocks come to To, each time of one that happens twice.
func (h Hours) nextTo(now, local time.Time, loc *time.Location) time.Time {
	year, month, day := local.Date()
	for d := 0; ; d++ {
		for _, at := range occurrences(date{year, month, day + d}, h.To, loc) {
			if at.After(now) {
				return at
			}
		}
	}
}

type date struct {
	year  int
	month time.Month
	day   int
}

// occurrences lists the moments, in order, at which the clocks of loc show tod on a date: one, two where
// clocks are put back over it, and where they are put forward over it the moment of the change.
func occurrences(d date, tod TimeOfDay, loc *time.Location) []time.Time {
	wall := time.Date(d.year, d.month, d.day, int(tod)/60, int(tod)%60, 0, 0, time.UTC).Unix()
	near := time.Date(d.year, d.month, d.day, int(tod)/60, int(tod)%60, 0, 0, loc)
	offsets, changes := around(near)
	var found []time.Time
	for _, offset := range offsets {
		at := time.Unix(wall-int64(offset), 0).In(loc)
		if _, actual := at.Zone(); actual == offset && !contains(found, at) {
			found = append(found, at)
		}
	}
	if len(found) == 2 && found[1].Before(found[0]) {
		found[0], found[1] = found[1], found[0]
	}
	if len(found) > 0 {
		return found
	}
	for _, change := range changes {
		_, before := change.Add(-time.Second).Zone()
		_, after := change.Zone()
		if change.Unix()+int64(before) <= wall && wall < change.Unix()+int64(after) {
			return []time.Time{change}
		}
	}
	return []time.Time{near}
}

// around lists the offsets in force near t, and the changes between them.
func around(t time.Time) (offsets []int, changes []time.Time) {
	start, end := t.ZoneBounds()
	_, offset := t.Zone()
	offsets = append(offsets, offset)
	if !start.IsZero() && t.Sub(start) < 48*time.Hour {
		_, before := start.Add(-time.Second).Zone()
		offsets, changes = append(offsets, before), append(changes, start)
	}
	if !end.IsZero() && end.Sub(t) < 48*time.Hour {
		_, after := end.Zone()
		offsets, changes = append(offsets, after), append(changes, end)
	}
	return offsets, changes
}

func contains(times []time.Time, t time.Time) bool {
	for _, other := range times {
		if other.Equal(t) {
			return true
		}
	}
	return false
}
