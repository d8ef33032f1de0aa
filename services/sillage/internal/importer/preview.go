package importer

import (
	"errors"
	"fmt"
	"io"

	"github.com/sillage-cdp/sillage/services/sillage/internal/rows"
)

// Preview writes the first n events of a file to w, one a line, and what is wrong with rows on the way. It
// sends nothing.
func Preview(file rows.Reader, options Options, n int, w io.Writer) error {
	from := newEvents(file, options.withDefaults(), 0)
	for range n {
		ev, err := from.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		text := string(ev.text)
		if ev.bad != nil {
			text = fmt.Sprintf("line %d: %s", ev.line, ev.bad)
		}
		if _, err := fmt.Fprintln(w, text); err != nil {
			return fmt.Errorf("printing an event: %w", err)
		}
	}
	return nil
}
