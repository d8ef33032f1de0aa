// Package retail turns the UCI Online Retail data set into events of the tracking API: one
// `Order Completed` or `Order Refunded` an invoice, with its products, at the invoice's time.
// SOURCE.md says where the data comes from and under which licence.
package retail

import (
	"bufio"
	"bytes"
	_ "embed" // the data set
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

//go:embed online_retail.tsv.zst
var data []byte

// What the data set holds.
const (
	// Lines is the number of invoice lines.
	Lines = 541_909
	// Invoices is the number of invoices and so of events.
	Invoices = 25_900
	// Customers is the number of distinct customers.
	Customers = 4_372
	// TotalMillis is Σ quantity × price in thousandths of a pound.
	TotalMillis = 9_747_747_934
)

// Line is one line of an invoice.
type Line struct {
	StockCode, Description string
	Quantity               int64
	// PriceMillis is the unit price in thousandths of a pound.
	PriceMillis int64
}

// Invoice is one invoice.
type Invoice struct {
	Number string
	At     time.Time
	// Customer is empty for an anonymous order.
	Customer string
	Country  string
	Lines    []Line
}

// TotalMillis is the worth of the invoice in thousandths of a pound, negative for a refund.
func (i Invoice) TotalMillis() int64 {
	var sum int64
	for _, l := range i.Lines {
		sum += l.Quantity * l.PriceMillis
	}
	return sum
}

// Refund reports whether the invoice gives money back: a cancellation, or a correction with a negative total.
func (i Invoice) Refund() bool {
	return strings.HasPrefix(i.Number, "C") || i.TotalMillis() < 0
}

type product struct {
	ID       string      `json:"product_id"`
	Name     string      `json:"name"`
	Quantity int64       `json:"quantity"`
	Price    json.Number `json:"price"`
}

type properties struct {
	OrderID  string      `json:"order_id"`
	Currency string      `json:"currency"`
	Revenue  json.Number `json:"revenue"`
	Products []product   `json:"products"`
}

type event struct {
	Type        string         `json:"type"`
	Event       string         `json:"event"`
	MessageID   string         `json:"messageId"`
	UserID      string         `json:"userId,omitempty"`
	AnonymousID string         `json:"anonymousId,omitempty"`
	Timestamp   string         `json:"timestamp"`
	Context     map[string]any `json:"context"`
	Properties  properties     `json:"properties"`
}

// JSON is the invoice as one event of the tracking API. A refund has positive quantities and a positive
// revenue, as the e-commerce specification has it: its worth is to be taken off.
func (i Invoice) JSON() ([]byte, error) {
	name, sign := "Order Completed", int64(1)
	if i.Refund() {
		name, sign = "Order Refunded", -1
	}
	e := event{
		Type: "track", Event: name, MessageID: "invoice-" + i.Number, Timestamp: i.At.Format(time.RFC3339),
		Context:    map[string]any{"traits": map[string]string{"country": i.Country}},
		Properties: properties{OrderID: i.Number, Currency: "GBP", Revenue: decimal(sign * i.TotalMillis())},
	}
	if i.Customer == "" {
		e.AnonymousID = "order-" + i.Number
	} else {
		e.UserID = "customer-" + i.Customer
	}
	for _, l := range i.Lines {
		e.Properties.Products = append(e.Properties.Products, product{
			ID: l.StockCode, Name: l.Description, Quantity: sign * l.Quantity, Price: decimal(l.PriceMillis),
		})
	}
	return json.Marshal(e)
}

// decimal writes thousandths as a number without binary rounding.
func decimal(millis int64) json.Number {
	sign := ""
	if millis < 0 {
		sign, millis = "-", -millis
	}
	text := fmt.Sprintf("%s%d.%03d", sign, millis/1000, millis%1000)
	return json.Number(strings.TrimSuffix(strings.TrimRight(text, "0"), "."))
}

// Read calls fn with every invoice, in the order of the data set.
func Read(fn func(Invoice) error) error {
	unzipped, err := zstd.NewReader(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("reading the history: %w", err)
	}
	defer unzipped.Close()
	r := reader{fn: fn}
	lines := bufio.NewScanner(unzipped)
	for number := 1; lines.Scan(); number++ {
		if err := r.line(strings.Split(lines.Text(), "\t")); err != nil {
			return fmt.Errorf("reading line %d of the history: %w", number, err)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("reading the history: %w", err)
	}
	return r.flush()
}

// WriteJSONLines writes every invoice as a line of JSON.
func WriteJSONLines(w io.Writer) error {
	return Read(func(i Invoice) error {
		line, err := i.JSON()
		if err != nil {
			return fmt.Errorf("encoding invoice %s: %w", i.Number, err)
		}
		_, err = w.Write(append(line, '\n'))
		return err
	})
}

// reader gathers lines into invoices.
type reader struct {
	products [][2]string
	current  *Invoice
	fn       func(Invoice) error
}

func (r *reader) line(fields []string) error {
	switch {
	case len(fields) == 3 && fields[0] == "P":
		r.products = append(r.products, [2]string{fields[1], fields[2]})
		return nil
	case len(fields) == 5 && fields[0] == "I":
		if err := r.flush(); err != nil {
			return err
		}
		at, err := time.Parse(time.DateTime, fields[2])
		r.current = &Invoice{Number: fields[1], At: at, Customer: fields[3], Country: fields[4]}
		return err
	case len(fields) == 3 && r.current != nil:
		return r.item(fields)
	default:
		return fmt.Errorf("%d fields were not expected", len(fields))
	}
}

func (r *reader) item(fields []string) error {
	product, err := strconv.Atoi(fields[0])
	if err != nil || product >= len(r.products) {
		return fmt.Errorf("product %q is not known", fields[0])
	}
	quantity, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return fmt.Errorf("reading the quantity: %w", err)
	}
	price, err := millis(fields[2])
	if err != nil {
		return fmt.Errorf("reading the price: %w", err)
	}
	p := r.products[product]
	r.current.Lines = append(r.current.Lines, Line{StockCode: p[0], Description: p[1], Quantity: quantity, PriceMillis: price})
	return nil
}

func (r *reader) flush() error {
	if r.current == nil {
		return nil
	}
	done := *r.current
	r.current = nil
	return r.fn(done)
}

// millis reads a decimal with at most three digits after the point as thousandths.
func millis(text string) (int64, error) {
	digits, negative := strings.CutPrefix(text, "-")
	whole, fraction, _ := strings.Cut(digits, ".")
	if len(fraction) > 3 {
		return 0, fmt.Errorf("%q has more than three digits after the point", text)
	}
	n, err := strconv.ParseInt(whole+fraction+strings.Repeat("0", 3-len(fraction)), 10, 64)
	if negative {
		n = -n
	}
	return n, err
}
