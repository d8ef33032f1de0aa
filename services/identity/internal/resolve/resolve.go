package resolve

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sillage-cdp/sillage/services/identity/internal/envelope"
	"github.com/sillage-cdp/sillage/services/identity/internal/policy"
	"github.com/sillage-cdp/sillage/services/identity/internal/profileid"
)

// State is the keyed state of one anchor. Values returned are not changed and not kept.
type State interface {
	Get(name string) ([]byte, bool)
	Put(name string, value []byte)
	Delete(name string)
	Range(prefix string, fn func(name string, value []byte) bool)
	SetTimer(id string, due time.Time, payload []byte)
	CancelTimer(id string)
}

// Policies gives the policy of a tenant.
type Policies interface {
	For(tenant string) *policy.Policy
}

// Config bounds the resolver.
type Config struct {
	// DedupWindow is how long a message id is remembered, from its first arrival.
	DedupWindow time.Duration
	// MaxHeld and MaxHeldBytes bound the events of one anchor that wait for an answer.
	MaxHeld      int
	MaxHeldBytes int
	// AskAgain is the first pause after which an unanswered question is repeated; each further pause
	// is twice as long, up to maxAskAgain.
	AskAgain time.Duration
}

const (
	askTimer    = "ask"
	maxAskAgain = time.Hour
	heldPrefix  = "h/"
)

// Resolver resolves the events of any number of anchors, one call at a time. It holds nothing between
// calls but memory to work in.
type Resolver struct {
	cfg      Config
	policies Policies
	header   envelope.Header
	links    []policy.Identifier
	buf      []byte
}

// New returns a resolver.
func New(cfg Config, policies Policies) *Resolver {
	return &Resolver{cfg: cfg, policies: policies}
}

// Fate is why an event ended here.
type Fate int

const (
	// Passed says that it did not end here.
	Passed Fate = iota
	// Duplicate says that its message id came within the window.
	Duplicate
	// RefusedAnchor says that the identifier that keys it is none by the tenant's policy.
	RefusedAnchor
)

// Note tells the ledger of an event that ended here.
type Note struct {
	Fate       Fate
	Tenant     string
	Source     string
	MessageID  string
	ReceivedMs int64
}

// Ask is a question to the graph: whose is the anchor, given that one event carries all of Identifiers?
type Ask struct {
	Tenant string
	Anchor policy.Identifier
	// AnchorProfile is the anchor's present profile; empty if no event was ever emitted for it.
	AnchorProfile string
	AnchorSinceMs int64
	// Identifiers are the usable ones, the anchor first.
	Identifiers []policy.Identifier
	MessageID   string
	Source      string
	AtMs        int64
}

// Answer is what the graph says of an anchor.
type Answer struct {
	Tenant    string
	Anchor    policy.Identifier
	ProfileID string
	// EventProfileID is the profile of the event that asked, if it is not ProfileID.
	EventProfileID string
	Linked         []policy.Identifier
	// MessageID names the event that asked; empty if another anchor's question caused the answer.
	MessageID string
}

// Decision is what follows from an event, an answer or a timer. Emits are in order.
type Decision struct {
	Emits []envelope.Resolved
	// Ask is nil if there is nothing to ask.
	Ask *Ask
	// Note has a Fate other than Passed if the event ended here.
	Note Note
}

// Errors that say that a record cannot be handled.
var (
	// ErrHeldFull: too many events of the anchor wait already.
	ErrHeldFull = errors.New("too many events of this anchor wait for the identity graph: replay the record when it has answered")
	// ErrKey: the record's key does not name the event's tenant and first identifier.
	ErrKey = errors.New("the record's key is not `tenant/namespace:value` of the first identifier")

	errMessageID = fmt.Errorf("message_id: needs 1 to %d bytes", envelope.MaxMessageID)
	errNoAnchor  = errors.New("identifiers: at least one is needed")
	errAnswer    = errors.New("profile_id: an assignment needs one")
)

// Event takes the next event of the anchor that key names.
func (r *Resolver) Event(st State, now time.Time, key, event []byte) (Decision, error) {
	h := &r.header
	if err := envelope.Read(event, h); err != nil {
		return Decision{}, err
	}
	if err := checkEvent(h, key); err != nil {
		return Decision{}, err
	}
	anchor := h.Identifiers[0]
	pol := r.policies.For(h.Tenant)
	direct := anchor.Namespace == policy.ProfileID && h.Internal && anchor.Value != ""
	if !direct && !pol.Usable(anchor) {
		return Decision{Note: note(h, RefusedAnchor)}, nil
	}
	rec, err := loadRecord(st)
	if err != nil {
		return Decision{}, err
	}
	sweeping := rec.sweeping
	repeated, err := r.duplicate(st, &rec, h.MessageID, now)
	if err != nil {
		return Decision{}, err
	}
	if repeated {
		return Decision{Note: note(h, Duplicate)}, nil
	}
	var d Decision
	changed := rec.sweeping != sweeping
	if direct {
		d.Emits = []envelope.Resolved{{Tenant: h.Tenant, ProfileID: anchor.Value, Event: event}}
	} else {
		took, err := r.take(st, &rec, now, event, &d)
		if err != nil {
			return Decision{}, err
		}
		changed = changed || took
	}
	if changed {
		r.saveRecord(st, &rec)
	}
	return d, nil
}

// take decides on an event that is new, whose header is in r.header: it is emitted, or it waits. It
// returns whether rec changed.
func (r *Resolver) take(st State, rec *record, now time.Time, event []byte, d *Decision) (changed bool, err error) {
	h := &r.header
	pol := r.policies.For(h.Tenant)
	links := r.usableLinks(pol)
	if rec.pending != "" {
		return true, r.hold(st, rec, event)
	}
	changed = rec.begin(h, len(links))
	profile, ok := r.decided(rec, links, pol)
	if !ok {
		if err := r.hold(st, rec, event); err != nil {
			return false, err
		}
		r.ask(st, rec, now, d)
		return true, nil
	}
	return r.emit(rec, profile, event, nil, d) || changed, nil
}

// begin gives a new anonymous anchor its derived profile.
func (rec *record) begin(h *envelope.Header, links int) (changed bool) {
	if rec.profile != "" {
		return false
	}
	if rec.sinceMs == 0 {
		rec.sinceMs = h.TimestampMs
		changed = true
	}
	if anchor := h.Identifiers[0]; links == 0 && policy.DerivesAtOnce(anchor.Namespace) {
		rec.moveTo(profileid.Derive(h.Tenant, anchor.Namespace, anchor.Value))
		changed = true
	}
	return changed
}

// decided returns the profile of an event with these links, if it is known without asking.
func (r *Resolver) decided(rec *record, links []policy.Identifier, pol *policy.Policy) (string, bool) {
	if rec.profile == "" {
		return "", false
	}
	if r.allLinked(rec, links) {
		return rec.profile, true
	}
	if len(rec.routes) == 0 {
		return "", false
	}
	profile, ok := rec.routeOf(hashSet(links), pol.Fingerprint())
	if ok && profile == "" {
		profile = rec.profile
	}
	return profile, ok
}

func (r *Resolver) allLinked(rec *record, links []policy.Identifier) bool {
	for _, id := range links {
		r.buf = append(append(append(r.buf[:0], id.Namespace...), ':'), id.Value...)
		if !slices.ContainsFunc(rec.linked, func(have string) bool { return have == string(r.buf) }) {
			return false
		}
	}
	return true
}

// emit adds an event to the decision, with the identifiers that are new to its profile, and returns
// whether rec changed.
func (r *Resolver) emit(rec *record, profile string, event []byte, fresh []policy.Identifier, d *Decision) (changed bool) {
	h := &r.header
	if rec.fresh && profile == rec.profile {
		rec.fresh, changed = false, true
		fresh = append([]policy.Identifier{h.Identifiers[0]}, fresh...)
	}
	d.Emits = append(d.Emits, envelope.Resolved{Tenant: h.Tenant, ProfileID: profile, Event: event, New: fresh})
	return changed
}

// hold puts an event behind those that wait.
func (r *Resolver) hold(st State, rec *record, event []byte) error {
	if rec.held() >= uint64(r.cfg.MaxHeld) || rec.heldBytes+uint64(len(event)) > uint64(r.cfg.MaxHeldBytes) {
		return ErrHeldFull
	}
	st.Put(heldName(rec.tail), event)
	rec.tail++
	rec.heldBytes += uint64(len(event))
	return nil
}

func heldName(n uint64) string { return fmt.Sprintf("%s%016x", heldPrefix, n) }

// ask opens the question of the event whose header and links are in hand.
func (r *Resolver) ask(st State, rec *record, now time.Time, d *Decision) {
	rec.pending, rec.tries = r.header.MessageID, 0
	r.repeat(st, rec, now, d)
}

// repeat puts the open question, of the event whose header and links are in hand, into the decision.
func (r *Resolver) repeat(st State, rec *record, now time.Time, d *Decision) {
	h := &r.header
	d.Ask = &Ask{
		Tenant: h.Tenant, Anchor: h.Identifiers[0], AnchorProfile: rec.profile, AnchorSinceMs: rec.sinceMs,
		Identifiers: append([]policy.Identifier{h.Identifiers[0]}, r.links...),
		MessageID:   h.MessageID, Source: h.Source, AtMs: h.TimestampMs,
	}
	pause := min(r.cfg.AskAgain<<min(rec.tries, 16), maxAskAgain)
	rec.tries++
	st.SetTimer(askTimer, now.Add(pause), nil)
}

// Answer takes what the graph says of the anchor that key names, and lets the events go that waited for it.
func (r *Resolver) Answer(st State, now time.Time, key []byte, answer Answer) (Decision, error) {
	if !keyNames(key, answer.Tenant, answer.Anchor) {
		return Decision{}, ErrKey
	}
	if answer.ProfileID == "" {
		return Decision{}, errAnswer
	}
	rec, err := loadRecord(st)
	if err != nil {
		return Decision{}, err
	}
	rec.moveTo(answer.ProfileID)
	if answer.EventProfileID == "" {
		for _, id := range answer.Linked {
			rec.link(id.String())
		}
	}
	var d Decision
	if rec.pending != "" && answer.MessageID == rec.pending {
		rec.pending, rec.tries = "", 0
		st.CancelTimer(askTimer)
		err = r.release(st, &rec, now, answer, &d)
	}
	if err != nil {
		return Decision{}, err
	}
	r.saveRecord(st, &rec)
	return d, nil
}

// release emits the event that asked and those behind it, up to the next that must ask.
func (r *Resolver) release(st State, rec *record, now time.Time, answer Answer, d *Decision) error {
	for asked := true; rec.head < rec.tail; asked = false {
		event, err := r.loadHeld(st, rec)
		if err != nil {
			return err
		}
		pol := r.policies.For(r.header.Tenant)
		links := r.usableLinks(pol)
		var (
			profile string
			fresh   []policy.Identifier
			known   bool
		)
		if asked {
			profile, fresh = r.conclude(rec, links, pol, answer)
		} else if profile, known = r.decided(rec, links, pol); !known {
			r.ask(st, rec, now, d)
			return nil
		}
		r.emit(rec, profile, event, fresh, d)
		st.Delete(heldName(rec.head))
		rec.head++
		rec.heldBytes -= min(rec.heldBytes, uint64(len(event)))
	}
	rec.heldBytes = 0
	return nil
}

// conclude applies the answer to the event that asked: its profile, the identifiers that are new to it,
// and a route where the answer holds for this set of identifiers only.
func (r *Resolver) conclude(rec *record, links []policy.Identifier, pol *policy.Policy, answer Answer) (string, []policy.Identifier) {
	var fresh []policy.Identifier
	for _, id := range links {
		if slices.Contains(answer.Linked, id) {
			fresh = append(fresh, id)
		}
	}
	if answer.EventProfileID != "" || len(fresh) < len(links) {
		rec.addRoute(route{set: hashSet(links), profile: answer.EventProfileID}, pol.Fingerprint())
	}
	if answer.EventProfileID != "" {
		return answer.EventProfileID, fresh
	}
	return rec.profile, fresh
}

// loadHeld returns a copy of the first event that waits, with its header in r.header.
func (r *Resolver) loadHeld(st State, rec *record) ([]byte, error) {
	value, ok := st.Get(heldName(rec.head))
	if !ok {
		return nil, fmt.Errorf("loading a waiting event: number %d is missing", rec.head)
	}
	event := bytes.Clone(value)
	if err := envelope.Read(event, &r.header); err != nil {
		return nil, fmt.Errorf("loading a waiting event: %w", err)
	}
	if len(r.header.Identifiers) == 0 {
		return nil, fmt.Errorf("loading a waiting event: %w", errNoAnchor)
	}
	return event, nil
}

// Timer handles a timer of the anchor.
func (r *Resolver) Timer(st State, now time.Time, id string, payload []byte) (Decision, error) {
	rec, err := loadRecord(st)
	if err != nil {
		return Decision{}, err
	}
	var d Decision
	switch {
	case id == sweepTimer:
		err = r.sweep(st, &rec, now, payload)
	case id == askTimer && rec.pending != "":
		if _, err = r.loadHeld(st, &rec); err == nil {
			r.usableLinks(r.policies.For(r.header.Tenant))
			r.repeat(st, &rec, now, &d)
		}
	}
	if err != nil {
		return Decision{}, err
	}
	r.saveRecord(st, &rec)
	return d, nil
}

// usableLinks returns the identifiers besides the anchor that may name the person, each once. An alias
// counts its previous id as an anonymous one, unless it stands among the identifiers already.
func (r *Resolver) usableLinks(pol *policy.Policy) []policy.Identifier {
	h := &r.header
	r.links = r.links[:0]
	anchor := h.Identifiers[0]
	for _, id := range h.Identifiers[1:] {
		if id == anchor || slices.Contains(r.links, id) || !pol.Usable(id) || echoes(id, h.Identifiers) {
			continue
		}
		r.links = append(r.links, id)
	}
	if h.Type == envelope.TypeAlias && h.PreviousID != "" && !hasValue(h.Identifiers, h.PreviousID) {
		if id := (policy.Identifier{Namespace: policy.AnonymousID, Value: h.PreviousID}); pol.Usable(id) {
			r.links = append(r.links, id)
		}
	}
	return r.links
}

// echoes is true for an anonymous id that is the user id over again: some SDKs fill the one from the
// other, which says nothing of a device.
func echoes(id policy.Identifier, all []policy.Identifier) bool {
	return id.Namespace == policy.AnonymousID && slices.Contains(all, policy.Identifier{Namespace: policy.UserID, Value: id.Value})
}

func hasValue(ids []policy.Identifier, value string) bool {
	return slices.ContainsFunc(ids, func(id policy.Identifier) bool { return id.Value == value })
}

// hashSet names a set of identifiers whatever their order.
func hashSet(ids []policy.Identifier) setHash {
	names := make([]string, 0, len(ids))
	for _, id := range ids {
		names = append(names, id.String())
	}
	slices.Sort(names)
	var text []byte
	for _, name := range names {
		text = appendText(text, name)
	}
	sum := sha256.Sum256(text)
	return setHash(sum[:16])
}

func loadRecord(st State) (record, error) {
	value, ok := st.Get(recordName)
	if !ok {
		return record{}, nil
	}
	return parseRecord(value)
}

func (r *Resolver) saveRecord(st State, rec *record) {
	r.buf = rec.append(r.buf[:0])
	st.Put(recordName, r.buf)
}

func note(h *envelope.Header, fate Fate) Note {
	return Note{Fate: fate, Tenant: h.Tenant, Source: h.Source, MessageID: h.MessageID, ReceivedMs: h.ReceivedMs}
}

func checkEvent(h *envelope.Header, key []byte) error {
	if len(h.Identifiers) == 0 {
		return errNoAnchor
	}
	if h.MessageID == "" || len(h.MessageID) > envelope.MaxMessageID {
		return errMessageID
	}
	if h.Tenant == "" || !keyNames(key, h.Tenant, h.Identifiers[0]) {
		return ErrKey
	}
	return nil
}

// keyNames is true if key is `tenant/namespace:value`.
func keyNames(key []byte, tenant string, id policy.Identifier) bool {
	rest, ok := bytes.CutPrefix(key, []byte(tenant))
	if !ok || len(rest) == 0 || rest[0] != '/' {
		return false
	}
	rest, ok = bytes.CutPrefix(rest[1:], []byte(id.Namespace))
	return ok && len(rest) > 0 && rest[0] == ':' && string(rest[1:]) == id.Value
}
