// Command faults prints the table of a fault report: `faults FILE`. It ends with 1 if anything failed.
package main

import (
	"fmt"
	"os"

	"github.com/alecthomas/kong"

	"github.com/sillage-cdp/sillage/tests/e2e/faults/report"
)

type flags struct {
	File string `arg:"" help:"The file that scenarios have written, one row of JSON a line." type:"existingfile"`
}

func main() {
	var f flags
	kong.Parse(&f, kong.Name("faults"), kong.Description("Prints what fault scenarios injected and found."))
	ok, err := show(f.File)
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
	if !ok {
		os.Exit(1)
	}
}

func show(name string) (bool, error) {
	file, err := os.Open(name)
	if err != nil {
		return false, fmt.Errorf("opening the report: %w", err)
	}
	defer file.Close() //nolint:errcheck // read only
	rows, err := report.Read(file)
	if err != nil {
		return false, err
	}
	return report.Print(os.Stdout, rows), nil
}
