package rows

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// Fields of sillage.event.v1.Event.
const (
	fieldTenant     protowire.Number = 2
	fieldSource     protowire.Number = 3
	fieldReceivedAt protowire.Number = 14
)

// door reads of an event what the ledger counts and skips the rest: the profile log brings every event
// once more, whole. TestDoorAgreesWithTheGeneratedCode compares the two.
func door(raw []byte) (tenant, source string, receivedAtMs int64, err error) {
	for len(raw) > 0 {
		number, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return "", "", 0, protowire.ParseError(n)
		}
		raw = raw[n:]
		switch {
		case number == fieldTenant && kind == protowire.BytesType:
			tenant, n = protowire.ConsumeString(raw)
		case number == fieldSource && kind == protowire.BytesType:
			source, n = protowire.ConsumeString(raw)
		case number == fieldReceivedAt && kind == protowire.VarintType:
			var v uint64
			v, n = protowire.ConsumeVarint(raw)
			receivedAtMs = int64(v)
		default:
			n = protowire.ConsumeFieldValue(number, kind, raw)
		}
		if n < 0 {
			return "", "", 0, protowire.ParseError(n)
		}
		raw = raw[n:]
	}
	return tenant, source, receivedAtMs, nil
}
