package mapping

import (
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"strings"

	"github.com/sillage-cdp/sillage/services/sillage/internal/rows"
)

// node is a value of the event. append writes it as JSON; present is false for one that is left out.
type node interface {
	append(out []byte, b *build) (text []byte, present bool, err error)
}

// literal is JSON as it stands in the mapping.
type literal string

func (l literal) append(out []byte, _ *build) ([]byte, bool, error) {
	return append(out, l...), true, nil
}

// object holds fields in the order of the mapping. One that comes out empty is left out.
type object []field

type field struct {
	name  string // quoted, as in JSON
	value node
}

func (o object) append(out []byte, b *build) ([]byte, bool, error) {
	begin := len(out)
	out = append(out, '{')
	for _, f := range o {
		before := len(out)
		if before > begin+1 {
			out = append(out, ',')
		}
		out = append(append(out, f.name...), ':')
		var present bool
		var err error
		if out, present, err = f.value.append(out, b); err != nil {
			return nil, false, err
		}
		if !present {
			out = out[:before]
		}
	}
	if len(out) == begin+1 {
		return out[:begin], false, nil
	}
	return append(out, '}'), true, nil
}

// list is a fixed list. Elements that are left out leave no gap.
type list []node

func (l list) append(out []byte, b *build) ([]byte, bool, error) {
	begin := len(out)
	out = append(out, '[')
	for _, element := range l {
		before := len(out)
		if before > begin+1 {
			out = append(out, ',')
		}
		var present bool
		var err error
		if out, present, err = element.append(out, b); err != nil {
			return nil, false, err
		}
		if !present {
			out = out[:before]
		}
	}
	if len(out) == begin+1 {
		return out[:begin], false, nil
	}
	return append(out, ']'), true, nil
}

// each is a list with an element for each row of the event.
type each struct{ element node }

func (e each) append(out []byte, b *build) ([]byte, bool, error) {
	first := b.row
	defer func() { b.row = first }()
	elements := make(list, len(b.group))
	for i, row := range b.group {
		elements[i] = at{row, e.element}
	}
	return elements.append(out, b)
}

// at is a node that takes its columns from one row.
type at struct {
	row   rows.Row
	value node
}

func (a at) append(out []byte, b *build) ([]byte, bool, error) {
	b.row = a.row
	return a.value.append(out, b)
}

// column is the value of a column.
type column struct {
	name     string
	convert  conversion
	prefix   string
	values   map[string]string // text to JSON; nil takes the text
	fallback string            // JSON for what is empty; empty leaves it out
	required bool
}

func (c *column) append(out []byte, b *build) ([]byte, bool, error) {
	v := b.value(c.name)
	v.Text = strings.TrimSpace(v.Text)
	if v.Text == "" {
		switch {
		case c.required:
			return nil, false, c.wrong("is empty")
		case c.fallback == "":
			return out, false, nil
		}
		return append(out, c.fallback...), true, nil
	}
	if c.values != nil {
		text, ok := c.values[v.Text]
		if !ok && c.fallback == "" {
			return nil, false, c.wrong("holds a value that `values` does not list")
		}
		if !ok {
			text = c.fallback
		}
		return append(out, text...), true, nil
	}
	v.Text = c.prefix + v.Text
	text, err := c.convert(v)
	if err != nil {
		return nil, false, c.wrong(err.Error())
	}
	return append(out, text...), true, nil
}

func (c *column) wrong(what string) error {
	return &rows.Bad{Code: BadValue, Detail: fmt.Sprintf("column %q %s", c.name, what)}
}

// sum adds, over the rows of the event, the products of the columns, exactly. A row in which one of them
// is empty adds nothing.
type sum struct {
	columns []string
	decimal decimal
}

func (s sum) append(out []byte, b *build) ([]byte, bool, error) {
	first := b.row
	defer func() { b.row = first }()
	total := new(big.Rat)
	places := 0
	for _, row := range b.group {
		b.row = row
		product := big.NewRat(1, 1)
		digits := 0
		for _, name := range s.columns {
			v := b.value(name)
			if strings.TrimSpace(v.Text) == "" {
				product.SetInt64(0)
				continue
			}
			text, err := s.decimal.parse(v.Text)
			if err != nil {
				return nil, false, (&column{name: name}).wrong(err.Error())
			}
			factor, _ := new(big.Rat).SetString(text) // decimal.parse gives nothing else
			product.Mul(product, factor)
			if _, fraction, ok := strings.Cut(text, "."); ok {
				digits += len(fraction)
			}
		}
		total.Add(total, product)
		places = max(places, digits)
	}
	return append(out, total.FloatString(places)...), true, nil
}

// choice is one of two nodes.
type choice struct {
	column    string
	matches   *regexp.Regexp // nil: the column is not empty
	then, els node           // either may be nil: then it is left out
}

func (c choice) append(out []byte, b *build) ([]byte, bool, error) {
	v := b.value(c.column)
	text := strings.TrimSpace(v.Text)
	taken := c.els
	if c.matches == nil && text != "" || c.matches != nil && c.matches.MatchString(text) {
		taken = c.then
	}
	if taken == nil {
		return out, false, nil
	}
	return taken.append(out, b)
}

func quote(text string) string {
	out, _ := json.Marshal(text) //nolint:errchkjson // text always encodes
	return string(out)
}
