package definition

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

func (c *checker) tenant(t *definitionv1.Tenant) {
	c.text("spec.display_name", t.GetDisplayName(), maxEventName)
	c.timezone("spec.timezone", t.GetTimezone())
	c.identity(t.GetIdentity())
	c.pressure(t.GetPressure())
	c.rateLimit("spec.rate_limit", t.GetRateLimit())
	c.consent(t.GetConsent())
}

func (c *checker) consent(policy *definitionv1.ConsentPolicy) {
	const path = "spec.consent.required"
	c.count(path, len(policy.GetRequired()), MaxCaps)
	for i, category := range policy.GetRequired() {
		at := fmt.Sprintf("%s[%d]", path, i)
		c.slug(at, category)
		if slices.Index(policy.GetRequired(), category) < i {
			c.failf(at, "%q is there twice", category)
		}
	}
}

// rateLimit checks token buckets; one that is left out is the service's.
func (c *checker) rateLimit(path string, limit *definitionv1.RateLimit) {
	c.perSecond(path+".requests_per_second", limit.GetRequestsPerSecond())
	c.perSecond(path+".events_per_second", limit.GetEventsPerSecond())
	c.burst(path+".request_burst", limit.GetRequestBurst(), limit.GetRequestsPerSecond())
	c.burst(path+".event_burst", limit.GetEventBurst(), limit.GetEventsPerSecond())
}

func (c *checker) perSecond(path string, rate float64) {
	// NaN is in no range.
	if !(rate >= 0 && rate <= maxEventRate) {
		c.failf(path, "%g is not between 0 and %d (0 or nothing means what the service is set to)", rate, maxEventRate)
	}
}

func (c *checker) burst(path string, burst int32, rate float64) {
	switch {
	case burst < 0 || burst > maxEventRate:
		c.failf(path, "%d is not between 1 and %d (0 or nothing means what a second brings)", burst, maxEventRate)
	case burst > 0 && rate == 0:
		c.failf(path, "has no rate beside it (write how many a second, too)")
	}
}

func (c *checker) identity(policy *definitionv1.IdentityPolicy) {
	const path = "spec.identity"
	c.count(path+".namespaces", len(policy.GetNamespaces()), MaxNamespaces)
	seen := map[string]bool{}
	for i, namespace := range policy.GetNamespaces() {
		at := fmt.Sprintf("%s.namespaces[%d]", path, i)
		c.namespace(at, namespace)
		if seen[namespace.GetName()] {
			c.failf(at+".name", "%q is there twice", namespace.GetName())
		}
		seen[namespace.GetName()] = true
	}
	c.count(path+".refused_values", len(policy.GetRefusedValues()), MaxRefusedValues)
	for i, value := range policy.GetRefusedValues() {
		at := fmt.Sprintf("%s.refused_values[%d]", path, i)
		c.text(at, value, maxEventName)
		if value == "" {
			c.failf(at, "is empty (empty identifiers are never taken anyway)")
		}
	}
}

// reservedNamespace anchors the events that Sillage writes itself.
const reservedNamespace = "profile_id"

var namespaceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func (c *checker) namespace(path string, namespace *definitionv1.Namespace) {
	name := namespace.GetName()
	if !namespaceName.MatchString(name) {
		c.failf(path+".name", "%q is not a namespace (write letters, digits, ., - and _, at most %d)", name, maxNameLength)
	}
	if name == reservedNamespace {
		c.failf(path+".name", "%q is Sillage's own and cannot be defined", name)
	}
	if limit := namespace.GetLimit(); limit < 0 || limit > MaxIdentifiersPerNamespace {
		c.failf(path+".limit", "%d is not between 1 and %d (0 or nothing means %d)", limit, MaxIdentifiersPerNamespace, MaxIdentifiersPerNamespace)
	}
}

func (c *checker) pressure(policy *definitionv1.PressurePolicy) {
	const path = "spec.pressure"
	c.count(path+".caps", len(policy.GetCaps()), MaxCaps)
	seen := map[string]bool{}
	for i, limit := range policy.GetCaps() {
		at := fmt.Sprintf("%s.caps[%d]", path, i)
		c.slug(at+".name", limit.GetName())
		if seen[limit.GetName()] {
			c.failf(at+".name", "%q is there twice", limit.GetName())
		}
		seen[limit.GetName()] = true
		if limit.GetCategory() != "" {
			c.slug(at+".category", limit.GetCategory())
		}
		if limit.Max == nil {
			c.failf(at+".max", "must be set (0 means never)")
		}
		if limit.GetMax() < 0 {
			c.failf(at+".max", "%d is below 0 (0 means never)", limit.GetMax())
		}
		c.duration(at+".within", limit.GetWithin(), false)
	}
	if quiet := policy.GetQuietHours(); quiet != nil {
		c.quietHours(path+".quiet_hours", quiet)
	}
}

func (c *checker) quietHours(path string, quiet *definitionv1.QuietHours) {
	c.timeOfDay(path+".from", quiet.GetFrom())
	c.timeOfDay(path+".to", quiet.GetTo())
	if quiet.GetFrom() == quiet.GetTo() {
		c.failf(path+".to", "is the same as from: leave quiet_hours out for none")
	}
	if _, known := definitionv1.QuietAction_name[int32(quiet.GetAction())]; !known {
		c.failf(path+".action", "%d is not an action (write wait or hold)", quiet.GetAction())
	}
}

func (c *checker) source(s *definitionv1.Source) {
	keys, hashes := s.GetWriteKeys(), s.GetWriteKeySha256()
	if len(keys)+len(hashes) == 0 && !s.GetDisabled() {
		c.failf("spec.write_keys", "a source needs at least one write key (or disabled: true)")
	}
	c.count("spec.write_keys", len(keys)+len(hashes), MaxWriteKeys)
	for i, key := range keys {
		at := fmt.Sprintf("spec.write_keys[%d]", i)
		if !validWriteKey(key) {
			// The key itself is a secret and stays out of the message.
			c.failf(at, "has %d characters and must have %d to %d, all printable ASCII without spaces", len(key), MinWriteKeyLength, MaxWriteKeyLength)
		}
		c.ownKey(at, HashWriteKey(key))
	}
	for i, hash := range hashes {
		at := fmt.Sprintf("spec.write_key_sha256[%d]", i)
		if !writeKeyHash.MatchString(hash) {
			c.failf(at, "is not a SHA-256 in lower-case hex (write the key itself under write_keys)")
		}
		c.ownKey(at, hash)
	}
	c.bytes("spec.max_event_bytes", s.GetMaxEventBytes(), maxEventBytes)
	c.bytes("spec.max_batch_bytes", s.GetMaxBatchBytes(), maxBatchBytes)
	c.bytes("spec.max_import_event_bytes", s.GetMaxImportEventBytes(), maxEventBytes)
	c.bytes("spec.max_import_batch_bytes", s.GetMaxImportBatchBytes(), maxBatchBytes)
	c.duration("spec.history_after", s.GetHistoryAfter(), true)
	c.rateLimit("spec.rate_limit", s.GetRateLimit())
	c.perSecond("spec.max_identity_events_per_second", s.GetMaxIdentityEventsPerSecond())
	if n := s.GetMaxEventNames(); n < 0 || n > MaxEventNames {
		c.failf("spec.max_event_names", "%d is not between 1 and %d (0 or nothing means what the service is set to)", n, MaxEventNames)
	}
	if _, known := definitionv1.IpHandling_name[int32(s.GetIp())]; !known {
		c.failf("spec.ip", "%d is not a way to handle addresses (write keep, shorten or drop)", s.GetIp())
	}
	c.count("spec.allowed_origins", len(s.GetAllowedOrigins()), MaxAllowedOrigins)
	for i, origin := range s.GetAllowedOrigins() {
		if !webOrigin.MatchString(origin) {
			c.failf(fmt.Sprintf("spec.allowed_origins[%d]", i), "%q is no origin such as https://shop.example or https://*.shop.example: scheme and host in lower case, a port if it is not the scheme's own, no path", origin)
		}
	}
}

// HashWriteKey is the SHA-256 of a write key in lower-case hex, the form in which keys are kept.
func HashWriteKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

var (
	writeKey     = regexp.MustCompile(`^[!-~]+$`)
	writeKeyHash = regexp.MustCompile(`^[0-9a-f]{64}$`)
	// webOrigin is a scheme and a host as a browser writes them in Origin; apps have schemes of their own.
	webOrigin = regexp.MustCompile(`^[a-z][a-z0-9+.-]{0,30}://(\*\.)?([a-z0-9]([a-z0-9._-]{0,250}[a-z0-9])?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?$`)
)

func validWriteKey(key string) bool {
	return len(key) >= MinWriteKeyLength && len(key) <= MaxWriteKeyLength && writeKey.MatchString(key)
}

// ownKey checks that no other source, of whatever tenant, has the same key: it decides where events go.
func (c *checker) ownKey(path, hash string) {
	for _, other := range c.refs.All() {
		if source := other.GetSource(); source == nil || IDOf(other) == c.id {
			continue
		}
		taken := slices.Contains(other.GetSource().GetWriteKeySha256(), hash) ||
			slices.ContainsFunc(other.GetSource().GetWriteKeys(), func(key string) bool { return HashWriteKey(key) == hash })
		if taken {
			c.failf(path, "the key belongs to another source already: make a new one")
			return
		}
	}
}

func (c *checker) bytes(path string, size, most int32) {
	if size < 0 || size > most {
		c.failf(path, "%d is not between 1 and %d (0 or nothing means the default)", size, most)
	}
}
