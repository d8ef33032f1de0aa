package statement

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestValuesGuard(t *testing.T) {
	for data, ok := range map[string]bool{
		`(1, 'file(', now()), (2, 'it''s file(', 'x\'file(')`: true,
		`(1, 'my file (2)')`:                 true,
		`(profile('x'))`:                     true,
		`(files (1), file)`:                  true,
		`(1 - 2 / 3 /* ' */, 'a')`:           true,
		`(file('/etc/passwd'))`:              false,
		`(1, FILE ('x'))`:                    false,
		"('a', `file`('x'))":                 false,
		`('a', "File" /* c */ ('x'))`:        false,
		"('a', file -- '\n ('x'))":           false,
		`('a' /* ' */, file('x'))`:           false,
		"(`\\x66ile`('x'))":                  false,
		`($$ ' $$, file('x'))`:               false,
		`('a''', file('x'))`:                 false,
		`('a\\', file('x'))`:                 false,
		`('a', 1/**/, file/**//**/('x'))`:    false,
		`('a', 1--'` + "\n" + `, file('x'))`: false,
	} {
		var whole, pieces ValuesGuard
		require.Equal(t, ok, whole.Check([]byte(data)) == nil, data)
		var err error
		for i := range len(data) {
			err = errors.Join(err, pieces.Check([]byte{data[i]}))
		}
		require.Equal(t, ok, err == nil, data)
	}
}
