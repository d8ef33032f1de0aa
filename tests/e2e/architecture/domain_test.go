package architecture_test

import (
	"strings"
	"testing"
)

// adapters are the internal packages of services that touch the outside world, each with what it
// touches. Every other internal package is domain: it takes `now` and data and returns decisions.
var adapters = map[string]string{
	"services/analytics/internal/audit":             "compares Kafka with ClickHouse",
	"services/analytics/internal/schema":            "makes tables in ClickHouse",
	"services/analytics/internal/sink":              "Kafka to ClickHouse",
	"services/analytics/internal/sinktest":          "a broker and a database for tests",
	"services/channel-connector/internal/dispatch":  "consumes sends from Kafka, paces attempts by the wall",
	"services/channel-connector/internal/journal":   "Pebble",
	"services/channel-connector/internal/smtpmail":  "SMTP",
	"services/channel-connector/internal/trackhttp": "HTTP",
	"services/channel-connector/internal/webhook":   "HTTP",
	"services/control/internal/rpc":                 "gRPC",
	"services/control/internal/topic":               "Kafka",
	"services/decision/internal/follow":             "Kafka",
	"services/decision/internal/rpc":                "gRPC",
	"services/decision/internal/store":              "Pebble",
	"services/ingest/internal/grpcapi":              "gRPC",
	"services/ingest/internal/httpapi":              "HTTP",
	"services/ingest/internal/intake":               "writes to Kafka what it takes in, by the injected clock",
	"services/ingest/internal/producer":             "Kafka",
	"services/ingest/internal/quarantine":           "puts back through Kafka what was set aside",
	"services/ingest/internal/tail":                 "Kafka to gRPC",
}

// pure are shared packages that are domain as well.
var pure = map[string]bool{
	"pkg/definition": true, "pkg/rule": true, "pkg/profile": true, "pkg/topics": true,
}

// outside are the imports that only adapters may have.
var outside = []string{
	"github.com/twmb/franz-go/", "google.golang.org/grpc", "github.com/ClickHouse/", "github.com/cockroachdb/pebble",
	"net/http", "net/smtp", "database/sql", "os", "os/exec",
	module + "pkg/clock", module + "pkg/kafka", module + "pkg/server", module + "pkg/service", module + "pkg/embedded",
}

func TestDomainPackagesArePure(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range load(t) {
		name := service(p.dir)
		inService := name != "" && name != "sillage" && strings.HasPrefix(p.dir, "services/"+name+"/internal/")
		if !inService && !pure[p.dir] {
			continue
		}
		if adapters[p.dir] != "" {
			seen[p.dir] = true
			continue
		}
		for path := range p.imports() {
			for _, banned := range outside {
				if path == banned || strings.HasPrefix(path, strings.TrimSuffix(banned, "/")+"/") {
					t.Errorf("%s is domain and imports %s", p.dir, path)
				}
			}
		}
		for _, call := range calls(p) {
			if call == "time.Now" || call == "time.Since" || call == "time.Sleep" || call == "time.After" {
				t.Errorf("%s is domain and calls %s: take now as a parameter", p.dir, call)
			}
		}
	}
	for dir := range adapters {
		if !seen[dir] {
			t.Errorf("%s is listed as an adapter and does not exist", dir)
		}
	}
}
