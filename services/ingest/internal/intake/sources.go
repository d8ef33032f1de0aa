package intake

import (
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/definition"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	"github.com/sillage-cdp/sillage/services/ingest/internal/door"
	"github.com/sillage-cdp/sillage/services/ingest/internal/enrich"
	"github.com/sillage-cdp/sillage/services/ingest/internal/identifier"
	"github.com/sillage-cdp/sillage/services/ingest/internal/limit"
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

// Source is a definition with everything resolved that a request needs.
type Source struct {
	wire.Source
	maxBatchBytes, maxImportBatchBytes int
	disabled                           bool
	origins                            *origins
	rules                              *door.Rules
	// quotas are the source's and the tenant's; either may be nil.
	quotas     [2]*limit.Quota
	accepted   []metric.AddOption // attributes alone
	attributes metric.MeasurementOption
}

// bodyLimit is the largest body of a call.
func (s *Source) bodyLimit(call wire.Call) int {
	if s == nil {
		s = &Source{maxBatchBytes: defaultBatchBytes, maxImportBatchBytes: defaultImportBatchBytes}
	}
	if call == wire.Import {
		return s.maxImportBatchBytes
	}
	return s.maxBatchBytes
}

// Disabled is true for a source that takes nothing now.
func (s *Source) Disabled() bool { return s.disabled }

// Allows is true for pages of an origin that may send; a caller that names none may.
func (s *Source) Allows(origin string) bool { return s.origins.allow(origin) }

// sources finds the source of a write key. It keeps what it has resolved until the definitions change.
type sources struct {
	definitions definition.Provider
	limits      Limits
	clock       clock.Clock
	current     atomic.Pointer[resolved]
	quotas      limit.Quotas
	names       limit.Names
	plans       plans
}

// resolved belongs to one revision of the definitions.
type resolved struct {
	revision uint64
	byDef    sync.Map // *definitionv1.Definition to *Source
}

func newSources(definitions definition.Provider, limits Limits, now clock.Clock, logger *slog.Logger) *sources {
	return &sources{definitions: definitions, limits: limits, clock: now, plans: plans{logger: logger}}
}

// byKey is the source of a write key, nil if there is none. A key that nobody has costs a hash and a look
// into memory, as any other does: there is nothing to remember about it.
func (s *sources) byKey(key string) *Source {
	if len(key) > definition.MaxWriteKeyLength {
		return nil
	}
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
	if known, ok := found.(*Source); ok {
		return known
	}
	made := s.resolve(snapshot, def)
	cache.byDef.Store(def, made)
	return made
}

func (s *sources) resolve(snapshot *definition.Snapshot, def *definitionv1.Definition) *Source {
	spec := def.GetSource()
	tenant := snapshot.Tenant(def.GetTenant()).GetTenantSpec()
	name := def.GetTenant() + "/" + def.GetName()
	set := attribute.NewSet(attribute.String("tenant", def.GetTenant()), attribute.String("source", def.GetName()))
	return &Source{
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
		rules:               s.rules(name, spec, snapshot.Plan(def.GetTenant(), def.GetName())),
		quotas: [2]*limit.Quota{
			s.quotas.For("source "+name, rates(spec.GetRateLimit(), s.limits.Source), s.clock.Now()),
			s.quotas.For("tenant "+def.GetTenant(), rates(tenant.GetRateLimit(), s.limits.Tenant), s.clock.Now()),
		},
		attributes: metric.WithAttributeSet(set),
		accepted:   []metric.AddOption{metric.WithAttributeSet(set)},
	}
}

// rules are what a source's events are held to.
func (s *sources) rules(name string, spec *definitionv1.Source, planned *definitionv1.Definition) *door.Rules {
	r := &door.Rules{
		Names: s.names.For(name), MaxNames: orDefault(spec.GetMaxEventNames(), s.limits.EventNames),
		Identity: limit.Rate{PerSecond: s.limits.IdentityEventsPerSecond},
		Plan:     s.plans.of(name, planned),
	}
	if own := spec.GetMaxIdentityEventsPerSecond(); own > 0 {
		r.Identity.PerSecond = own
	}
	r.Enrich.Address = addressOf(spec.GetIp())
	r.Identity.Burst = int(min(max(identityBurst*r.Identity.PerSecond, 1), math.MaxInt32))
	return r
}

func addressOf(handling definitionv1.IpHandling) enrich.Address {
	switch handling {
	case definitionv1.IpHandling_IP_HANDLING_SHORTEN:
		return enrich.Shorten
	case definitionv1.IpHandling_IP_HANDLING_DROP:
		return enrich.Drop
	default:
		return enrich.Keep
	}
}

// identityBurst is how many seconds' worth of events an identity may send at once, after a silence: a phone
// that was offline empties its queue. At the default rate it is a batch as long as batches may be.
const identityBurst = 25

// rates are what a definition says, else what the service is set to.
func rates(own *definitionv1.RateLimit, otherwise RateLimit) limit.Rates {
	r := limit.Rates{
		Calls:  limit.Rate{PerSecond: otherwise.RequestsPerSecond, Burst: otherwise.Burst},
		Events: limit.Rate{PerSecond: otherwise.EventsPerSecond, Burst: otherwise.EventBurst},
	}
	if own.GetRequestsPerSecond() > 0 {
		r.Calls = limit.Rate{PerSecond: own.GetRequestsPerSecond(), Burst: int(own.GetRequestBurst())}
	}
	if own.GetEventsPerSecond() > 0 {
		r.Events = limit.Rate{PerSecond: own.GetEventsPerSecond(), Burst: int(own.GetEventBurst())}
	}
	return r
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
