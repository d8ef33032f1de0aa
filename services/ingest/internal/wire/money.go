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
	mantissa, exponent, ok := decimal(text)
	if !ok {
		return 0, false
	}
	scaled, ok := shift(mantissa, exponent+6)
	if !ok {
		return 0, false
	}
	if negative {
		scaled = -scaled
	}
	return scaled, true
}

// decimal reads digits[.digits][e±digits] as mantissa × 10^exponent.
func decimal(text string) (mantissa uint64, exponent int, ok bool) {
	digits, fraction := 0, false
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
		if mantissa > (math.MaxUint64-9)/10 { // no more room: keep the magnitude, drop the digit
			if !fraction {
				exponent++
			}
			continue
		}
		mantissa = mantissa*10 + uint64(c-'0')
		if fraction {
			exponent--
		}
	}
	if digits == 0 {
		return 0, 0, false
	}
	if i == len(text) {
		return mantissa, exponent, true
	}
	shiftBy, ok := exponentPart(text[i:])
	return mantissa, exponent + shiftBy, ok
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

// shift is mantissa × 10^by as an int64.
func shift(mantissa uint64, by int) (int64, bool) {
	for ; by > 0 && mantissa > 0; by-- {
		if mantissa > math.MaxInt64/10 {
			return 0, false
		}
		mantissa *= 10
	}
	if by < 0 {
		if by < -20 {
			return 0, true
		}
		divisor := uint64(1)
		for ; by < -1; by++ {
			divisor *= 10
			if divisor > math.MaxUint64/10 {
				break
			}
		}
		mantissa /= divisor
		mantissa = mantissa/10 + (mantissa%10+5)/10
	}
	return int64(mantissa), mantissa <= math.MaxInt64
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
