// Package tracking makes the first-party links of a message and reads them back: the open pixel, the
// redirect of a link, the unsubscribe address. It is pure.
//
// A token carries the send that it belongs to and, for a link, where it leads, signed with HMAC-SHA-256
// (truncated to 128 bits): nobody can make the redirect lead elsewhere or unsubscribe somebody else.
// FuzzOpen and TestAnyChangeIsRefused would catch the loss of this.
package tracking

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
)

// MinKey is the length of the shortest signing key in bytes.
const MinKey = 32

// maxToken bounds a token in characters: 2,000 is what mail programs leave whole in a URL.
const maxToken = 4096

const macSize = 16

// Signer makes and reads tokens.
type Signer struct{ key []byte }

// NewSigner returns a signer with a secret key of at least MinKey bytes, the same for all instances.
func NewSigner(key []byte) (*Signer, error) {
	if len(key) < MinKey {
		return nil, fmt.Errorf("the tracking key has %d bytes, at least %d are needed", len(key), MinKey)
	}
	return &Signer{key: key}, nil
}

// Sign makes the token of a reaction that has not happened yet: type, send, profile, channel and, for a
// link, its address.
func (s *Signer) Sign(reaction *deliveryv1.Outcome) (string, error) {
	payload, err := reaction.MarshalVT()
	if err != nil {
		return "", fmt.Errorf("encoding a token: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(append(s.mac(payload), payload...)), nil
}

// ErrToken says that a token is not one of ours.
var ErrToken = errors.New("the link is not valid")

// Open reads a token back, or returns ErrToken.
func (s *Signer) Open(token string) (*deliveryv1.Outcome, error) {
	if len(token) > maxToken {
		return nil, ErrToken
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) < macSize {
		return nil, ErrToken
	}
	payload := raw[macSize:]
	if !hmac.Equal(raw[:macSize], s.mac(payload)) {
		return nil, ErrToken
	}
	var reaction deliveryv1.Outcome
	if err := reaction.UnmarshalVT(payload); err != nil {
		return nil, ErrToken
	}
	return &reaction, nil
}

func (s *Signer) mac(payload []byte) []byte {
	h := hmac.New(sha256.New, s.key)
	h.Write(payload)
	return h.Sum(nil)[:macSize]
}
