package httpapi

import (
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/time/rate"

	"github.com/sillage-cdp/sillage/pkg/definition"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	"github.com/sillage-cdp/sillage/services/ingest/internal/identifier"
	"github.com/sillage-cdp/sillage/services/ingest/internal/wire"
)

// What holds for a source that says nothing else (definitionv1.Source).
const (
	defaultEventBytes       = 32 << 10
	defaultBatchBytes       = 500 << 10
	defaultImportEventBytes = 1 << 20
	defaultImportBatchBytes = 8 << 20
	defaultHistoryAfter     = 24 * time.Hour
)

// source is a definition with everything resolved that a request needs.
type source struct {
	wire.Source
	maxBatchBytes, maxImportBatchBytes int
	disabled                           bool
	origins                            *origins
	limiter                            *rate.Limiter
	attributes                         metric.MeasurementOption
}

// bodyLimit is the largest body of a call.
func (s *source) bodyLimit(call wire.Call) int {
	if s == nil {
		s = &source{maxBatchBytes: defaultBatchBytes, maxImportBatchBytes: defaultImportBatchBytes}
	}
	if call == wire.Import {
		return s.maxImportBatchBytes
	}
	return s.maxBatchBytes
}

// sources finds the source of a write key. It keeps what it has resolved until the definitions change.
type sources struct {
	definitions definition.Provider
	rate        RateLimit
	current     atomic.Pointer[resolved]

	mu       sync.Mutex // guards limiters
	limiters map[string]*rate.Limiter
}

// resolved belongs to one revision of the definitions.
type resolved struct {
	revision uint64
	byDef    sync.Map // *definitionv1.Definition to *source
}

func newSources(definitions definition.Provider, limit RateLimit) *sources {
	return &sources{definitions: definitions, rate: limit, limiters: make(map[string]*rate.Limiter)}
}

// byKey is the source of a write key, nil if there is none.
func (s *sources) byKey(key string) *source {
	snapshot := s.definitions.Snapshot()
	def, ok := snapshot.SourceByWriteKey(key)
	if !ok {
		return nil
	}
	cache := s.current.Load()
	if cache == nil || cache.revision != snapshot.Revision() {
		cache = &resolved{revision: snapshot.Revision()}
		s.current.Store(cache)
	}
	found, _ := cache.byDef.Load(def)
	if known, ok := found.(*source); ok {
		return known
	}
	made := s.resolve(snapshot, def)
	cache.byDef.Store(def, made)
	return made
}

func (s *sources) resolve(snapshot *definition.Snapshot, def *definitionv1.Definition) *source {
	spec := def.GetSource()
	tenant := snapshot.Tenant(def.GetTenant()).GetTenantSpec()
	set := attribute.NewSet(attribute.String("tenant", def.GetTenant()), attribute.String("source", def.GetName()))
	return &source{
		Source: wire.Source{
			Tenant:              def.GetTenant(),
			Name:                def.GetName(),
			MaxEventBytes:       orDefault(spec.GetMaxEventBytes(), defaultEventBytes),
			MaxImportEventBytes: orDefault(spec.GetMaxImportEventBytes(), defaultImportEventBytes),
			HistoryAfter:        historyAfter(spec.GetHistoryAfter()),
			ServerSide:          spec.GetServerSide(),
			Identifiers:         identifier.NewPolicy(tenant.GetIdentity().GetRefusedValues()),
		},
		maxBatchBytes:       orDefault(spec.GetMaxBatchBytes(), defaultBatchBytes),
		maxImportBatchBytes: orDefault(spec.GetMaxImportBatchBytes(), defaultImportBatchBytes),
		disabled:            spec.GetDisabled(),
		origins:             newOrigins(spec.GetAllowedOrigins()),
		limiter:             s.limiter(def.GetTenant() + "/" + def.GetName()),
		attributes:          metric.WithAttributeSet(set),
	}
}

// limiter is the bucket of a source; it outlives a change of the definitions. Nil if rates are not limited.
func (s *sources) limiter(name string) *rate.Limiter {
	if s.rate.RequestsPerSecond <= 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.limiters[name]
	if !ok {
		l = rate.NewLimiter(rate.Limit(s.rate.RequestsPerSecond), s.rate.Burst)
		s.limiters[name] = l
	}
	return l
}

// historyAfter is a source's limit; control refuses a definition in which it cannot be read, so that the
// default stands in only for one that was written before that rule.
func historyAfter(text string) time.Duration {
	if text == "" {
		return defaultHistoryAfter
	}
	d, err := definition.ParseDuration(text)
	if err != nil {
		return defaultHistoryAfter
	}
	return d
}

func orDefault(value int32, otherwise int) int {
	if value <= 0 {
		return otherwise
	}
	return int(value)
}
