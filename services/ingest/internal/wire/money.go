package wire

import (
	"math"
	"strings"
)

// micros reads a decimal number in millionths, exactly: no float is involved, digits beyond the sixth are
// rounded half away from zero. ok is false for anything but a decimal number whose value fits.
//
// Binary floating point cannot hold 0.1; summing revenue over it drifts. The tests compare with math/big.
func micros(text string) (value int64, ok bool) {
	text = strings.TrimSpace(text)
	negative := strings.HasPrefix(text, "-")
	if negative || strings.HasPrefix(text, "+") {
		text = text[1:]
	}
	number, ok := decimal(text)
	if !ok {
		return 0, false
	}
	number.exponent += 6
	scaled, ok := number.rounded()
	switch {
	case !ok:
		return 0, false
	case negative && scaled <= -math.MinInt64:
		return -int64(scaled), true
	case !negative && scaled <= math.MaxInt64:
		return int64(scaled), true
	default:
		return 0, false
	}
}

// number is mantissa × 10^exponent, but for digits that the mantissa had no room for.
type number struct {
	mantissa uint64
	exponent int
	next     byte // the first digit that the mantissa had no room for, 0 to 9
}

// decimal reads digits[.digits][e±digits].
func decimal(text string) (n number, ok bool) {
	digits, fraction, full := 0, false, false
	i := 0
	for ; i < len(text); i++ {
		c := text[i]
		if c == '.' && !fraction {
			fraction = true
			continue
		}
		if c < '0' || c > '9' {
			break
		}
		digits++
		if full || n.mantissa > (math.MaxUint64-9)/10 { // no more room: keep the magnitude, drop the digit
			if !full {
				full, n.next = true, c-'0'
			}
			if !fraction {
				n.exponent++
			}
			continue
		}
		n.mantissa = n.mantissa*10 + uint64(c-'0')
		if fraction {
			n.exponent--
		}
	}
	if digits == 0 {
		return number{}, false
	}
	if i == len(text) {
		return n, true
	}
	shiftBy, ok := exponentPart(text[i:])
	n.exponent += shiftBy
	return n, ok
}

func exponentPart(text string) (int, bool) {
	if text[0] != 'e' && text[0] != 'E' {
		return 0, false
	}
	text = text[1:]
	negative := strings.HasPrefix(text, "-")
	if negative || strings.HasPrefix(text, "+") {
		text = text[1:]
	}
	if text == "" || len(text) > 4 {
		return 0, false
	}
	n := 0
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
		n = n*10 + int(text[i]-'0')
	}
	if negative {
		n = -n
	}
	return n, true
}

// rounded is the number as an integer, rounded half up. ok is false if it is too large for an int64 by far.
func (n number) rounded() (value uint64, ok bool) {
	by := n.exponent
	switch {
	case by < -20:
		return 0, true
	case by < 0:
		for ; by < -1; by++ {
			n.mantissa /= 10
		}
		return n.mantissa/10 + (n.mantissa%10+5)/10, true // the digit dropped last decides
	case by == 0:
		return n.mantissa + uint64(n.next+5)/10, true
	}
	for ; by > 0 && n.mantissa > 0; by-- {
		if n.mantissa > math.MaxInt64/10 {
			return 0, false
		}
		n.mantissa *= 10
	}
	return n.mantissa, true
}

// currencyCode returns an ISO 4217 code in upper case, blank if the text has not the form of one.
func currencyCode(text string) string {
	text = strings.TrimSpace(text)
	if len(text) != 3 {
		return ""
	}
	upper := true
	for i := range 3 {
		c := text[i]
		if c|0x20 < 'a' || c|0x20 > 'z' {
			return ""
		}
		upper = upper && c <= 'Z'
	}
	if upper {
		return text
	}
	return strings.ToUpper(text)
}
