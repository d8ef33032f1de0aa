package definition

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// MaxDuration bounds every duration of a definition: ten years.
const MaxDuration = 3653 * 24 * time.Hour

const day = 24 * time.Hour

// ParseDuration reads a duration as definitions write it: a whole number and one unit of `s`, `m`, `h`,
// `d` (24 hours) or `w` (7 days), for example `45m`. It is never negative and at most MaxDuration. The
// error says how to write what was probably meant.
func ParseDuration(text string) (time.Duration, error) {
	if text == "" {
		return 0, errors.New("a duration is missing (write for example 45m)")
	}
	number, unit := text[:len(text)-1], text[len(text)-1:]
	size, known := unitSize(unit)
	n, err := strconv.ParseUint(number, 10, 32)
	tooLong := errors.Is(err, strconv.ErrRange)
	if !known || (err != nil && !tooLong) {
		return 0, fmt.Errorf("%q is not a duration (write %s)", text, suggestDuration(text))
	}
	if tooLong || time.Duration(n) > MaxDuration/size {
		return 0, fmt.Errorf("%q is longer than ten years (write 3653d at most)", text)
	}
	return time.Duration(n) * size, nil
}

func unitSize(unit string) (time.Duration, bool) {
	switch unit {
	case "s":
		return time.Second, true
	case "m":
		return time.Minute, true
	case "h":
		return time.Hour, true
	case "d":
		return day, true
	case "w":
		return 7 * day, true
	default:
		return 0, false
	}
}

// FormatDuration writes d, a multiple of a second, in the largest unit that leaves a whole number.
func FormatDuration(d time.Duration) string {
	for _, unit := range []string{"w", "d", "h", "m"} {
		if size, _ := unitSize(unit); d >= size && d%size == 0 {
			return strconv.FormatInt(int64(d/size), 10) + unit
		}
	}
	return strconv.FormatInt(int64(d/time.Second), 10) + "s"
}

var wordyDuration = regexp.MustCompile(`^\s*(\d+)\s*([A-Za-z]+)\s*$`)

// suggestDuration guesses what was meant: `45 min` is 45m, `1h30m` is 90m.
func suggestDuration(text string) string {
	if parts := wordyDuration.FindStringSubmatch(text); parts != nil {
		word := strings.ToLower(parts[2])
		// `ms` and `month` begin with the letter of a unit that is not theirs.
		if word != "ms" && !strings.HasPrefix(word, "mo") && !strings.HasPrefix(word, "mil") {
			if _, known := unitSize(word[:1]); known {
				return parts[1] + word[:1]
			}
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= time.Second && d <= MaxDuration {
		return FormatDuration(d.Truncate(time.Second))
	}
	return "a whole number and one of s, m, h, d, w, for example 45m"
}
