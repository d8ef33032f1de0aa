package stream

import "errors"

// errCorrupt marks a store that cannot be trusted: it is wiped and rebuilt from the changelog.
var errCorrupt = errors.New("the local state is damaged")

// errNewer marks state that was written by a later version of its processor.
var errNewer = errors.New("the state is of a later version than this instance: upgrade the instance")
