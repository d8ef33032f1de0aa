// Package profileid derives the id of a profile from its tenant and its first identifier, so that any
// node computes the same id without asking another.
//
// The id is the first 128 bits of SHA-256 over the length-prefixed tenant, namespace and value, in
// base62 (the digits and order of KSUID), 22 characters behind the prefix `p`. Two different
// identifiers meet with probability n²/2¹²⁹ for n identifiers: 1.5·10⁻²¹ for a billion. The id tells
// nothing of when the profile began and does not hide the identifier from someone who guesses it:
// it is a pseudonym, treated as personal data.
package profileid

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
)

// Length is the length of every derived id in bytes.
const Length = 1 + digits

const (
	digits   = 22 // 62^22 > 2^128
	alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// Derive returns the id of the profile that begins with the identifier namespace:value of tenant.
func Derive(tenant, namespace, value string) string {
	var scratch [256]byte
	text := scratch[:0]
	for _, part := range [3]string{tenant, namespace, value} {
		text = binary.AppendUvarint(text, uint64(len(part)))
		text = append(text, part...)
	}
	sum := sha256.Sum256(text)
	return encode(binary.BigEndian.Uint64(sum[:8]), binary.BigEndian.Uint64(sum[8:16]))
}

// encode writes the 128-bit number hi·2⁶⁴+lo in base62, most significant digit first.
func encode(hi, lo uint64) string {
	var out [Length]byte
	out[0] = 'p'
	for i := Length - 1; i > 0; i-- {
		var rem uint64
		hi, rem = hi/62, hi%62
		lo, rem = bits.Div64(rem, lo, 62)
		out[i] = alphabet[rem]
	}
	return string(out[:])
}
