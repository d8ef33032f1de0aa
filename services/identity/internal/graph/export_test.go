package graph

// DecodeProfile shows a profile's entry to the tests.
func DecodeProfile(id string, b []byte) (counts map[string]int, known bool, into string, err error) {
	p, err := parseProfile(id, b)
	if err != nil {
		return nil, false, "", err
	}
	counts = map[string]int{}
	for _, c := range p.counts {
		counts[c.namespace] = c.n
	}
	return counts, p.known, p.into, nil
}

// Recode writes a profile's entry again.
func Recode(b []byte) ([]byte, error) {
	p, err := parseProfile("", b)
	if err != nil {
		return nil, err
	}
	return p.append(nil), nil
}

// Owner shows the profile of an identifier's entry to the tests.
func Owner(b []byte) string {
	profile, _ := cutOwner(b)
	return profile
}
