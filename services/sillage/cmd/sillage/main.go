// Command sillage runs the whole of Sillage in one process and is its command line.
package main

import (
	"os"

	"github.com/sillage-cdp/sillage/services/sillage/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
