package definition

import "strings"

// nearest is the one of known that text was probably meant to be, empty if none is near.
func nearest(text string, known []string) string {
	plain := func(s string) string { return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s)) }
	best, distance := "", 3
	if len(text) <= 4 {
		distance = 2
	}
	for _, name := range known {
		if len(name) > maxNameLength || len(text) > maxNameLength {
			continue
		}
		if d := editDistance(plain(text), plain(name)); d < distance {
			best, distance = name, d
		}
	}
	return best
}

// editDistance is the Levenshtein distance in bytes (Wagner and Fischer's algorithm, one row at a time).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
