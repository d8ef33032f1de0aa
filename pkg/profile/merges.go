package profile

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/topics"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
)

// Field numbers of ProfileRecord.
const (
	fieldMergeAnnounced protowire.Number = 4
	fieldMergedInto     protowire.Number = 5
)

// Merges tells the stream runtime which records of the profile log announce or carry out merges; records
// of other topics never do. An ordinary event costs a glance at its outermost fields, not a decoding.
// A record that cannot be decoded is no merge: its processor refuses it with the reason.
func Merges(rec stream.Record) stream.Merge {
	if rec.Topic != topics.ProfileLog || !mentionsMerge(rec.Value) {
		return stream.Merge{}
	}
	var record profilev1.ProfileRecord
	if err := record.UnmarshalVT(rec.Value); err != nil {
		return stream.Merge{}
	}
	switch body := record.GetBody().(type) {
	case *profilev1.ProfileRecord_MergeAnnounced:
		return stream.Merge{
			Kind:  stream.MergeAnnounced,
			Other: topics.Key(record.GetTenant(), body.MergeAnnounced.GetFromProfileId()),
			ID:    body.MergeAnnounced.GetMergeId(),
		}
	case *profilev1.ProfileRecord_MergedInto:
		return stream.Merge{
			Kind:  stream.MergeInto,
			Other: topics.Key(record.GetTenant(), body.MergedInto.GetIntoProfileId()),
			ID:    body.MergedInto.GetMergeId(),
		}
	default:
		return stream.Merge{}
	}
}

// mentionsMerge skips over the outermost fields of an encoded ProfileRecord.
func mentionsMerge(value []byte) bool {
	for len(value) > 0 {
		number, kind, n := protowire.ConsumeTag(value)
		if n < 0 {
			return false
		}
		if number == fieldMergeAnnounced || number == fieldMergedInto {
			return true
		}
		value = value[n:]
		if n = protowire.ConsumeFieldValue(number, kind, value); n < 0 {
			return false
		}
		value = value[n:]
	}
	return false
}
