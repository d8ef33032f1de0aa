package stream

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.yaml.in/yaml/v3"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
)

// instruments notes the name and unit of everything that is measured.
type instruments struct {
	noop.MeterProvider
	units map[string]string
	kinds map[string]string
}

func (i *instruments) Meter(string, ...metric.MeterOption) metric.Meter { return instrumentsOf{of: i} }

type instrumentsOf struct {
	noop.Meter
	of *instruments
}

func (m instrumentsOf) note(name, unit, kind string) { m.of.units[name], m.of.kinds[name] = unit, kind }

func (m instrumentsOf) Int64Counter(name string, opts ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	m.note(name, metric.NewInt64CounterConfig(opts...).Unit(), "counter")
	return m.Meter.Int64Counter(name, opts...)
}

func (m instrumentsOf) Float64Histogram(name string, opts ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	m.note(name, metric.NewFloat64HistogramConfig(opts...).Unit(), "histogram")
	return m.Meter.Float64Histogram(name, opts...)
}

func (m instrumentsOf) Int64ObservableGauge(name string, opts ...metric.Int64ObservableGaugeOption) (metric.Int64ObservableGauge, error) {
	m.note(name, metric.NewInt64ObservableGaugeConfig(opts...).Unit(), "gauge")
	return m.Meter.Int64ObservableGauge(name, opts...)
}

func (m instrumentsOf) Float64ObservableGauge(name string, opts ...metric.Float64ObservableGaugeOption) (metric.Float64ObservableGauge, error) {
	m.note(name, metric.NewFloat64ObservableGaugeConfig(opts...).Unit(), "gauge")
	return m.Meter.Float64ObservableGauge(name, opts...)
}

func allInstruments(t *testing.T) *instruments {
	t.Helper()
	all := &instruments{units: make(map[string]string), kinds: make(map[string]string)}
	tel := telemetry.Nop()
	tel.Meter = all
	deps := testDeps(t)
	deps.Clock, deps.Telemetry = clock.System{}, tel
	_, err := NewRunner(counterTopology(), Config{Kafka: kafka.NewDefaultConfig(), DataDir: t.TempDir(), CommitInterval: time.Millisecond}, deps)
	require.NoError(t, err)
	return all
}

// TestReadmeHasEveryMetric: the table is complete and names nothing else, with the right units.
func TestReadmeHasEveryMetric(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	all := allInstruments(t)
	listed := make(map[string]string)
	for _, row := range regexp.MustCompile("(?m)^\\| `(sillage\\.stream\\.[a-z._]+)` \\| (\\w+) \\| ([^|]+) \\|").FindAllStringSubmatch(string(readme), -1) {
		listed[row[1]] = row[2] + " " + strings.TrimSpace(row[3])
	}
	want := make(map[string]string)
	for name, unit := range all.units {
		want[name] = all.kinds[name] + " " + unit
	}
	require.Equal(t, want, listed)
}

// TestReadmeExampleIsTheTestedOne: every line of the example is in example_test.go, which compiles and runs.
func TestReadmeExampleIsTheTestedOne(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	tested, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	block := regexp.MustCompile("(?s)```go\n(.*?)```").FindSubmatch(readme)
	require.NotNil(t, block)
	for line := range strings.Lines(string(block[1])) {
		require.Contains(t, string(tested), line)
	}
}

// TestDocsNameTestsThatExist: a promise whose test is gone would be an empty one.
func TestDocsNameTestsThatExist(t *testing.T) {
	var tests strings.Builder
	for _, pattern := range []string{"*_test.go", "dlq/*_test.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			tests.Write(text)
		}
	}
	named := 0
	for _, file := range []string{"README.md", "DESIGN.md", "doc.go", "dlq/dlq.go"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, name := range regexp.MustCompile(`\b(Test|Benchmark)[A-Z][A-Za-z]+`).FindAllString(string(text), -1) {
			named++
			require.Contains(t, tests.String(), "func "+name+"(", file)
		}
	}
	require.Greater(t, named, 40)
}

// TestAlertsNameMetricsThatExist: an alert on a metric that is not there would never fire.
func TestAlertsNameMetricsThatExist(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "deploy", "prometheus", "stream.rules.yaml"))
	require.NoError(t, err)
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations map[string]string
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(raw, &rules))
	known := make(map[string]bool)
	all := allInstruments(t)
	for name, unit := range all.units {
		suffix := map[string]string{"counter": "_total", "histogram": "_bucket", "gauge": ""}[all.kinds[name]]
		known[strings.ReplaceAll(name, ".", "_")+map[string]string{"s": "_seconds", "By": "_bytes"}[unit]+suffix] = true
	}
	seen := 0
	for _, rule := range rules.Groups[0].Rules {
		require.NotEmpty(t, rule.Annotations["action"], rule.Alert)
		for _, name := range regexp.MustCompile(`sillage_[a-z_]+`).FindAllString(rule.Expr, -1) {
			seen++
			require.True(t, known[name], "%s: %s", rule.Alert, name)
		}
	}
	require.Greater(t, seen, 10)
}
