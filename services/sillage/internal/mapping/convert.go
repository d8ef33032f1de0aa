package mapping

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sillage-cdp/sillage/services/sillage/internal/rows"
)

// conversion turns a value that is not empty into JSON. Its error says what the column does not hold,
// without the value.
type conversion func(rows.Value) (string, error)

// asIs keeps the type that a JSON file gives a value; of CSV everything is text.
func asIs(v rows.Value) (string, error) {
	if v.JSON != "" && v.JSON[0] != '"' {
		return v.JSON, nil
	}
	return quote(v.Text), nil
}

func asText(v rows.Value) (string, error) { return quote(v.Text), nil }

// decimal says how numbers are written.
type decimal struct {
	comma bool // `1.234,50` rather than `1,234.50`
}

// plainNumber is what JSON takes, without a sign or an exponent and with any zeros in front.
var plainNumber = regexp.MustCompile(`^\d+(\.\d+)?$`)

// parse gives a number in the form of JSON.
func (d decimal) parse(text string) (string, error) {
	text = strings.TrimSpace(text)
	group, point := ",", "."
	if d.comma {
		group, point = ".", ","
	}
	text = strings.NewReplacer(group, "", " ", "", "\u00a0", "", "\u202f", "", "'", "", point, ".").Replace(text)
	text, negative := strings.CutPrefix(text, "-")
	if !negative {
		text = strings.TrimPrefix(text, "+")
	}
	if strings.HasPrefix(text, ".") {
		text = "0" + text
	}
	if len(text) > 40 || !plainNumber.MatchString(text) {
		return "", errors.New("holds no number")
	}
	if text = strings.TrimLeft(text, "0"); text == "" || text[0] == '.' {
		text = "0" + text
	}
	if negative {
		text = "-" + text
	}
	return text, nil
}

func (d decimal) number(v rows.Value) (string, error) { return d.parse(v.Text) }

func (d decimal) integer(v rows.Value) (string, error) {
	text, err := d.parse(v.Text)
	if err != nil {
		return "", err
	}
	whole, fraction, _ := strings.Cut(text, ".")
	if strings.Trim(fraction, "0") != "" {
		return "", errors.New("holds a number that is not whole")
	}
	return whole, nil
}

func asBoolean(v rows.Value) (string, error) {
	switch strings.ToLower(v.Text) {
	case "true", "t", "yes", "y", "1", "on":
		return "true", nil
	case "false", "f", "no", "n", "0", "off":
		return "false", nil
	}
	return "", errors.New("holds neither true nor false (true/false, yes/no, y/n, 1/0, on/off)")
}

func asJSON(v rows.Value) (string, error) {
	if v.JSON != "" && v.JSON[0] != '"' {
		return v.JSON, nil
	}
	if !json.Valid([]byte(v.Text)) { // which bounds how deep it nests
		return "", errors.New("holds no JSON")
	}
	return v.Text, nil
}

// asTime reads a time in a layout of Go, in a zone unless the layout has one.
func asTime(layout string, zone *time.Location) conversion {
	return func(v rows.Value) (string, error) {
		at, err := readTime(layout, zone, v.Text)
		if err != nil {
			return "", err
		}
		return quote(at.UTC().Format("2006-01-02T15:04:05.000Z")), nil
	}
}

func readTime(layout string, zone *time.Location, text string) (time.Time, error) {
	if layout == "unix" || layout == "unix_ms" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return time.Time{}, errors.New("holds no whole number of time since 1970")
		}
		if layout == "unix" {
			return time.Unix(n, 0), nil
		}
		return time.UnixMilli(n), nil
	}
	at, err := time.ParseInLocation(layout, text, zone)
	if err != nil {
		return time.Time{}, fmt.Errorf("holds no time like %q", layout)
	}
	return at, nil
}
