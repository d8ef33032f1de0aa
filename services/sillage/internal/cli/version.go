package cli

import (
	"fmt"

	"github.com/sillage-cdp/sillage/pkg/version"
)

// versionCmd is `sillage version`.
type versionCmd struct{}

// Run prints the version.
func (*versionCmd) Run(streams Streams) error {
	_, err := fmt.Fprintln(streams.Out, "sillage", version.Version)
	if err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return nil
}
