package stream

import "errors"

// errCorrupt marks a store that cannot be trusted: it is wiped and rebuilt from the changelog.
var errCorrupt = errors.New("the local state is damaged")
