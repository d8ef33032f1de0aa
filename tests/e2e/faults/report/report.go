// Package report takes the numbers of fault scenarios and makes one table of them: what was injected and
// what was found.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
)

// EnvFile is the variable that names the file to which scenarios append their rows, as lines of JSON.
const EnvFile = "SILLAGE_FAULTS_REPORT"

// Row is one repetition of a scenario.
type Row struct {
	Scenario string `json:"scenario"` // R3 and so on
	What     string `json:"what"`     // in a few words
	Broker   string `json:"broker"`
	Seed     uint64 `json:"seed"`
	// Injected are the faults by kind.
	Injected map[string]int `json:"injected"`
	Events   int            `json:"events"`
	// Checked are the outputs and entries of state that were compared; the others are differences.
	Checked int `json:"checked"`
	Lost    int `json:"lost"`
	Doubled int `json:"doubled"`
	Swapped int `json:"swapped"`
	Wrong   int `json:"wrong"`
	// Measured are further figures with their units in the name; the table has the worst: the greatest, or the least if
	// the name begins with "least".
	Measured map[string]float64 `json:"measured,omitempty"`
	Seconds  float64            `json:"seconds"`
	// Failed says that the repetition did not pass, whatever the counts say.
	Failed bool `json:"failed"`
}

// Write appends a row to the file that EnvFile names; without one it does nothing.
func Write(row Row) error {
	name := os.Getenv(EnvFile)
	if name == "" {
		return nil
	}
	line, err := json.Marshal(row)
	if err != nil {
		return fmt.Errorf("encoding a row of the report: %w", err)
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening the report: %w", err)
	}
	_, err = file.Write(append(line, '\n'))
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

// Read reads rows as Write wrote them.
func Read(r io.Reader) ([]Row, error) {
	var rows []Row
	for decoder := json.NewDecoder(r); ; {
		var row Row
		err := decoder.Decode(&row)
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return rows, fmt.Errorf("reading row %d of the report: %w", len(rows)+1, err)
		}
		rows = append(rows, row)
	}
}

// sum is the repetitions of one scenario on one broker.
type sum struct {
	Row
	repetitions, failed int
	seeds               []string
}

// Print writes the table, one row for each scenario and broker, and says whether all is well: no row
// failed and nothing is lost, doubled, swapped or wrong.
func Print(w io.Writer, rows []Row) (ok bool) {
	sums := map[string]*sum{}
	for _, row := range rows {
		name := row.Scenario + "\x00" + row.What + "\x00" + row.Broker
		if sums[name] == nil {
			sums[name] = &sum{Row: Row{Scenario: row.Scenario, What: row.What, Broker: row.Broker, Injected: map[string]int{}, Measured: map[string]float64{}}}
		}
		sums[name].add(row)
	}
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.AppendHeader(table.Row{"scenario", "what", "broker", "injected", "events", "checked", "lost", "doubled", "swapped", "wrong", "measured (worst)", "seconds", "seeds", "repetitions", "result"})
	ok = true
	for _, name := range slices.SortedFunc(maps.Keys(sums), byNumber) {
		s := sums[name]
		result := "ok"
		if s.failed > 0 || s.Lost+s.Doubled+s.Swapped+s.Wrong > 0 {
			result, ok = fmt.Sprintf("FAILED (%d)", s.failed), false
		}
		t.AppendRow(table.Row{
			s.Scenario, s.What, s.Broker, list(s.Injected), s.Events, s.Checked, s.Lost, s.Doubled, s.Swapped, s.Wrong,
			list(s.Measured), fmt.Sprintf("%.0f", s.Seconds), strings.Join(s.seeds, " "), s.repetitions, result,
		})
	}
	t.RenderMarkdown()
	return ok
}

// byNumber puts R3 before R15.
func byNumber(a, b string) int {
	var m, n int
	_, errA := fmt.Sscanf(a, "R%d", &m)
	_, errB := fmt.Sscanf(b, "R%d", &n)
	if errA == nil && errB == nil && m != n {
		return m - n
	}
	return strings.Compare(a, b)
}

func (s *sum) add(row Row) {
	for kind, n := range row.Injected {
		s.Injected[kind] += n
	}
	for name, value := range row.Measured {
		worst, seen := s.Measured[name]
		switch {
		case !seen:
			s.Measured[name] = value
		case strings.HasPrefix(name, "least"):
			s.Measured[name] = min(worst, value)
		default:
			s.Measured[name] = max(worst, value)
		}
	}
	s.Events += row.Events
	s.Checked += row.Checked
	s.Lost += row.Lost
	s.Doubled += row.Doubled
	s.Swapped += row.Swapped
	s.Wrong += row.Wrong
	s.Seconds += row.Seconds
	s.repetitions++
	s.seeds = append(s.seeds, fmt.Sprint(row.Seed))
	if row.Failed {
		s.failed++
	}
}

func list[V int | float64](values map[string]V) string {
	parts := make([]string, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		parts = append(parts, fmt.Sprintf("%s %.4g", name, float64(values[name])))
	}
	return strings.Join(parts, ", ")
}
