// Package envelope reads of an event what identity needs, and writes it into the profile log, without
// decoding the rest: the bytes of the event pass through unchanged, unknown fields included.
//
// It promises to read a header from every message that the generated code can decode, and to agree with
// it (FuzzRead compares them on any bytes); Wrap writes what the generated code would read back
// (TestWrap). Fields that it does not read are checked for framing only: what is wrong inside of a page
// or a consent, the stages that read it find.
package envelope

import (
	"cmp"
	"errors"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sillage-cdp/sillage/services/identity/internal/policy"
)

// Field numbers of sillage.event.v1.Event and Identifier.
const (
	fieldMessageID  protowire.Number = 1
	fieldTenant     protowire.Number = 2
	fieldSource     protowire.Number = 3
	fieldType       protowire.Number = 4
	fieldIdentifier protowire.Number = 6
	fieldPreviousID protowire.Number = 9
	fieldTimestamp  protowire.Number = 11
	fieldReceivedAt protowire.Number = 14
	fieldInternal   protowire.Number = 27

	fieldNamespace protowire.Number = 1
	fieldValue     protowire.Number = 2
)

// TypeAlias is EVENT_TYPE_ALIAS.
const TypeAlias = 6

// MaxIdentifiers bounds the identifiers of one event; further ones are left out.
const MaxIdentifiers = 32

// MaxMessageID bounds message ids, in bytes: four times the 100 characters that the door lets in.
const MaxMessageID = 400

// Header is what identity needs of an event.
type Header struct {
	MessageID  string
	Tenant     string
	Source     string
	Type       int32
	PreviousID string
	// Identifiers are as the event carries them, the anchor first, at most MaxIdentifiers.
	Identifiers []policy.Identifier
	TimestampMs int64
	ReceivedMs  int64
	Internal    bool

	// Most events repeat the tenant and the source of the one before: the same string serves again.
	lastTenant, lastSource string
}

// Errors of Read besides those of the wire format.
var (
	errInvalidUTF8 = errors.New("a string is not valid UTF-8")
	errWireType    = errors.New("a field has another wire type than the schema says")
)

// Read fills h from the wire bytes of an event. It takes over the memory of what h held before where that
// says the same; nothing in h refers to event afterwards.
func Read(event []byte, h *Header) error {
	*h = Header{Identifiers: h.Identifiers[:0], lastTenant: cmp.Or(h.Tenant, h.lastTenant), lastSource: cmp.Or(h.Source, h.lastSource)}
	for len(event) > 0 {
		number, kind, n := protowire.ConsumeTag(event)
		if n < 0 {
			return fmt.Errorf("reading a tag of the event: %w", protowire.ParseError(n))
		}
		event = event[n:]
		n, err := h.field(number, kind, event)
		if err != nil {
			return fmt.Errorf("reading field %d of the event: %w", number, err)
		}
		event = event[n:]
	}
	return nil
}

// field reads one field and returns its length.
func (h *Header) field(number protowire.Number, kind protowire.Type, b []byte) (int, error) {
	switch number {
	case fieldMessageID:
		return readString(kind, b, &h.MessageID, "")
	case fieldTenant:
		return readString(kind, b, &h.Tenant, h.lastTenant)
	case fieldSource:
		return readString(kind, b, &h.Source, h.lastSource)
	case fieldPreviousID:
		return readString(kind, b, &h.PreviousID, "")
	case fieldIdentifier:
		return h.identifier(kind, b)
	case fieldType, fieldTimestamp, fieldReceivedAt, fieldInternal:
		return h.number(number, kind, b)
	default:
		n := protowire.ConsumeFieldValue(number, kind, b)
		return n, protowire.ParseError(min(n, 0))
	}
}

func (h *Header) number(number protowire.Number, kind protowire.Type, b []byte) (int, error) {
	if kind != protowire.VarintType {
		return 0, errWireType
	}
	v, n := protowire.ConsumeVarint(b)
	if n < 0 {
		return 0, protowire.ParseError(n)
	}
	switch number {
	case fieldType:
		h.Type = int32(v)
	case fieldTimestamp:
		h.TimestampMs = int64(v)
	case fieldReceivedAt:
		h.ReceivedMs = int64(v)
	case fieldInternal:
		h.Internal = v != 0
	default: // field hands over no other
	}
	return n, nil
}

func (h *Header) identifier(kind protowire.Type, b []byte) (int, error) {
	if kind != protowire.BytesType {
		return 0, errWireType
	}
	body, length := protowire.ConsumeBytes(b)
	if length < 0 {
		return 0, protowire.ParseError(length)
	}
	var id policy.Identifier
	for len(body) > 0 {
		number, kind, n := protowire.ConsumeTag(body)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		body = body[n:]
		var err error
		switch number {
		case fieldNamespace:
			n, err = readString(kind, body, &id.Namespace, h.guessNamespace())
		case fieldValue:
			n, err = readString(kind, body, &id.Value, "")
		default:
			n = protowire.ConsumeFieldValue(number, kind, body)
			err = protowire.ParseError(min(n, 0))
		}
		if err != nil {
			return 0, err
		}
		body = body[n:]
	}
	if len(h.Identifiers) < MaxIdentifiers {
		h.Identifiers = append(h.Identifiers, id)
	}
	return length, nil
}

// guessNamespace is what the next identifier most likely is: a first one anonymous, a further one the user.
func (h *Header) guessNamespace() string {
	if len(h.Identifiers) == 0 {
		return policy.AnonymousID
	}
	return policy.UserID
}

// readString reads a string; if it equals guess, no memory is taken for it.
func readString(kind protowire.Type, b []byte, into *string, guess string) (int, error) {
	if kind != protowire.BytesType {
		return 0, errWireType
	}
	v, n := protowire.ConsumeBytes(b)
	if n < 0 {
		return 0, protowire.ParseError(n)
	}
	if !utf8.Valid(v) {
		return 0, errInvalidUTF8
	}
	if string(v) == guess {
		*into = guess
	} else {
		*into = string(v)
	}
	return n, nil
}

// Resolved is an event that found its profile.
type Resolved struct {
	Tenant    string
	ProfileID string
	// Event holds the wire bytes of the event.
	Event []byte
	// New are the identifiers by which the profile is not known to the anchor yet.
	New []policy.Identifier
}

// Field numbers of sillage.profile.v1.ProfileRecord and ResolvedEvent.
const (
	fieldRecordTenant  protowire.Number = 1
	fieldRecordProfile protowire.Number = 2
	fieldRecordEvent   protowire.Number = 3

	fieldResolvedEvent protowire.Number = 1
	fieldResolvedNew   protowire.Number = 2
)

// Wrap appends to buf the wire bytes of the ProfileRecord that holds r, and returns the extended buffer.
func Wrap(buf []byte, r Resolved) []byte {
	body := protowire.SizeTag(fieldResolvedEvent) + protowire.SizeBytes(len(r.Event))
	for _, id := range r.New {
		body += protowire.SizeTag(fieldResolvedNew) + protowire.SizeBytes(identifierSize(id))
	}
	buf = appendString(buf, fieldRecordTenant, r.Tenant)
	buf = appendString(buf, fieldRecordProfile, r.ProfileID)
	buf = protowire.AppendTag(buf, fieldRecordEvent, protowire.BytesType)
	buf = protowire.AppendVarint(buf, uint64(body))
	buf = protowire.AppendTag(buf, fieldResolvedEvent, protowire.BytesType)
	buf = protowire.AppendBytes(buf, r.Event)
	for _, id := range r.New {
		buf = protowire.AppendTag(buf, fieldResolvedNew, protowire.BytesType)
		buf = protowire.AppendVarint(buf, uint64(identifierSize(id)))
		buf = appendString(buf, fieldNamespace, id.Namespace)
		buf = appendString(buf, fieldValue, id.Value)
	}
	return buf
}

func identifierSize(id policy.Identifier) int {
	size := 0
	for _, s := range [2]string{id.Namespace, id.Value} {
		if s != "" {
			size += 1 + protowire.SizeBytes(len(s)) // both field numbers take one byte of tag
		}
	}
	return size
}

func appendString(buf []byte, number protowire.Number, s string) []byte {
	if s == "" {
		return buf
	}
	buf = protowire.AppendTag(buf, number, protowire.BytesType)
	return protowire.AppendString(buf, s)
}
