package timefix

import (
	"math"
	"strconv"
	"strings"
)

// Bounds of a time that is taken as one: after the epoch (0 means "not said"), within four-digit years.
const (
	minMs = 1
	maxMs = 253402300799999 // 9999-12-31T23:59:59.999Z
	// A number below this is seconds (until the year 5138), above it milliseconds (from March 1973 on).
	secondsBelow = 1e11
)

// Parse reads a time as producers write it: ISO 8601 with or without fraction, zone (then UTC), and time
// of day; or the Unix epoch in seconds or milliseconds, also as text. ok is false for anything else and
// for times before 1970 or after 9999.
func Parse(text string) (ms int64, ok bool) {
	text = strings.TrimSpace(text)
	if len(text) >= len("2006-01-02") && text[4] == '-' && text[7] == '-' {
		ms, ok = parseISO(text)
	} else {
		ms, ok = parseEpoch(text)
	}
	return ms, ok && ms >= minMs && ms <= maxMs
}

func parseEpoch(text string) (int64, bool) {
	if len(text) == 0 || len(text) > 24 || strings.ContainsAny(text, "xXpP_iInN") {
		return 0, false
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if n < secondsBelow && n > -secondsBelow {
			return n * 1000, true
		}
		return n, true
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, false
	}
	if math.Abs(f) < secondsBelow {
		f *= 1000
	}
	if math.Abs(f) > maxMs {
		return 0, false
	}
	return int64(math.Round(f)), true
}

// parseISO reads YYYY-MM-DD, then optionally T or a space, HH:MM, :SS, a fraction, and a zone.
func parseISO(s string) (int64, bool) {
	year, ok1 := digits(s, 0, 4)
	month, ok2 := digits(s, 5, 2)
	day, ok3 := digits(s, 8, 2)
	if !ok1 || !ok2 || !ok3 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) {
		return 0, false
	}
	date := daysSinceEpoch(year, month, day) * 86_400_000
	rest := s[10:]
	if rest == "" {
		return date, true
	}
	if rest[0] != 'T' && rest[0] != 't' && rest[0] != ' ' {
		return 0, false
	}
	clock, rest, ok := parseClock(rest[1:])
	if !ok {
		return 0, false
	}
	zone, ok := parseZone(strings.TrimSpace(rest))
	return date + clock - zone, ok
}

// parseClock reads HH:MM[:SS[.fraction]] into milliseconds of the day; a fraction beyond milliseconds is cut.
func parseClock(s string) (ms int64, rest string, ok bool) {
	hour, ok1 := digits(s, 0, 2)
	minute, ok2 := digits(s, 3, 2)
	if !ok1 || !ok2 || s[2] != ':' || hour > 23 || minute > 59 {
		return 0, "", false
	}
	ms, rest = int64(hour*60+minute)*60_000, s[5:]
	if rest == "" || rest[0] != ':' {
		return ms, rest, true
	}
	second, ok := digits(rest, 1, 2)
	if !ok || second > 60 { // 60: a leap second, which runs into the next minute
		return 0, "", false
	}
	ms, rest = ms+int64(second)*1000, rest[3:]
	if rest == "" || (rest[0] != '.' && rest[0] != ',') {
		return ms, rest, true
	}
	fraction, end := parseFraction(rest[1:])
	return ms + fraction, rest[1+end:], end > 0
}

// parseFraction reads the digits of a second's fraction into milliseconds, and returns how many they are.
func parseFraction(s string) (ms int64, end int) {
	unit := int64(100)
	for ; end < len(s) && s[end] >= '0' && s[end] <= '9'; end++ {
		ms += int64(s[end]-'0') * unit
		unit /= 10
	}
	return ms, end
}

// parseZone reads Z, ±HH, ±HHMM or ±HH:MM into milliseconds east of UTC; blank is UTC.
func parseZone(s string) (int64, bool) {
	if s == "" || s == "Z" || s == "z" || s == "UTC" {
		return 0, true
	}
	if s[0] != '+' && s[0] != '-' {
		return 0, false
	}
	hour, ok := digits(s, 1, 2)
	minute := 0
	if ok && len(s) > 3 {
		rest := strings.TrimPrefix(s[3:], ":")
		minute, ok = digits(rest, 0, 2)
		ok = ok && len(rest) == 2
	}
	if !ok || hour > 23 || minute > 59 {
		return 0, false
	}
	offset := int64(hour*60+minute) * 60_000
	if s[0] == '-' {
		offset = -offset
	}
	return offset, true
}

func digits(s string, from, n int) (int, bool) {
	if len(s) < from+n {
		return 0, false
	}
	v := 0
	for i := from; i < from+n; i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		v = v*10 + int(s[i]-'0')
	}
	return v, true
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// daysSinceEpoch counts days from 1970-01-01 in the Gregorian calendar (H. Hinnant, "chrono-Compatible
// Low-Level Date Algorithms", days_from_civil, for years from 0 on).
func daysSinceEpoch(year, month, day int) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	era, yearOfEra := year/400, year%400
	if year < 0 { // January and February of the year 0
		era, yearOfEra = -1, 399
	}
	dayOfYear := (153*(month-3)+2)/5 + day - 1
	dayOfEra := yearOfEra*365 + yearOfEra/4 - yearOfEra/100 + dayOfYear
	return int64(era)*146097 + int64(dayOfEra) - 719468
}
