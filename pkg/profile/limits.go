package profile

// Bounds of one profile. The door may refuse more than this; here it is only made sure that state stays
// within about a mebibyte whatever producers send.
const (
	// MaxTraits is how many traits a profile keeps, deleted ones included. Beyond it those set longest
	// ago go.
	MaxTraits = 256
	// MaxTraitBytes is the longest JSON value of a trait that is taken in.
	MaxTraitBytes = 4 << 10
	// MaxTraitName is the longest name of a trait or purpose that is taken in, in bytes.
	MaxTraitName = 128
	// MaxConsents is how many purposes and channels a profile keeps; beyond it those stated longest ago go.
	MaxConsents = 128
	// MaxIdentifiers is how many identifiers are listed; beyond it those that sort last go. The identity
	// graph holds the exact limits of each namespace.
	MaxIdentifiers = 2000
)
