// Package examples holds complete sets of definitions that work as they are: to try Sillage with, and to
// begin one's own from. Its test validates every one of them.
package examples

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/sillage-cdp/sillage/pkg/definition"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

// DemoBank is the set of the demonstration tenant `demo`.
const DemoBank = "demo-bank"

// Files holds one folder a set, with YAML files in it.
//
//go:embed demo-bank/*.yaml
var Files embed.FS

// Load parses every file of a set, in the order of their names.
func Load(set string) ([]*definitionv1.Definition, error) {
	files, err := fs.Glob(Files, path.Join(set, "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("finding the files of set %q: %w", set, err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("there is no set of examples %q", set)
	}
	var all []*definitionv1.Definition
	var errs []error
	for _, name := range files {
		defs, err := load(name)
		all, errs = append(all, defs...), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return all, nil
}

func load(name string) ([]*definitionv1.Definition, error) {
	file, err := Files.Open(name)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", name, err)
	}
	defer func() { _ = file.Close() }() // read only: nothing can be lost
	return definition.ParseYAML(file, name)
}
