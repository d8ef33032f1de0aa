package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// maxMessageID is the longest message id in characters.
const maxMessageID = 100

// cleanMessageID trims a producer's message id and removes control characters; blank if nothing usable is left.
func cleanMessageID(id string) string {
	id = strings.TrimSpace(id)
	if strings.IndexFunc(id, unicode.IsControl) >= 0 {
		id = strings.TrimSpace(strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return -1
			}
			return r
		}, id))
	}
	if len(id) > maxMessageID && utf8.RuneCountInString(id) > maxMessageID {
		return ""
	}
	return id
}

// messageID returns the producer's id, or one of the server's. made is true for one that a retry cannot
// repeat; an import's is derived from the item, so that reading a file again repeats it.
func (d *Decoder) messageID(given string) (id string, made bool, err error) {
	if id = cleanMessageID(given); id != "" {
		return id, false, nil
	}
	if d.payload.call == Import {
		id, err = d.derivedID()
		return id, false, err
	}
	id, err = newID(d.nowMs, d.arrival.Entropy)
	return id, true, err
}

// derivedID hashes tenant, source and the canonical form of the item. What changes from one sending to the
// next is left out.
func (d *Decoder) derivedID() (string, error) {
	text, err := canonical(d.item.text, "sentAt", "receivedAt", "writeKey")
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, _ = io.WriteString(h, d.source.Tenant+"\x00"+d.source.Name+"\x00"+text) // a hash never fails
	return "import-" + hex.EncodeToString(h.Sum(nil)[:20]), nil
}

// newID is a UUID version 7 (RFC 9562, 5.7) of the time of arrival.
func newID(nowMs int64, entropy io.Reader) (string, error) {
	var id uuid.UUID
	if _, err := io.ReadFull(entropy, id[6:]); err != nil {
		return "", fmt.Errorf("reading entropy for a message id: %w", err)
	}
	for i := range 6 {
		id[i] = byte(nowMs >> (40 - 8*i))
	}
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id.String(), nil
}
