package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"google.golang.org/grpc"

	"github.com/sillage-cdp/sillage/pkg/definition"
	controlv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/control/v1"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

// applyCmd is `sillage apply`.
type applyCmd struct {
	remote
	File   []string `short:"f" required:"" help:"YAML file or folder of YAML files; - for standard input. May be given more than once."`
	DryRun bool     `help:"Only check."`
}

// Run applies all definitions of all files together, or none.
func (c *applyCmd) Run(ctx context.Context, streams Streams) error {
	defs, err := readDefinitions(c.File, streams.In)
	if err != nil {
		return err
	}
	return c.call(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		resp, err := controlv1.NewDefinitionServiceClient(conn).ApplyDefinitions(ctx,
			&controlv1.ApplyDefinitionsRequest{Definitions: defs, DryRun: c.DryRun})
		if err != nil {
			return err
		}
		printApplied(streams.Out, resp.GetApplied(), c.DryRun)
		return nil
	})
}

func printApplied(w io.Writer, applied []*controlv1.AppliedDefinition, dryRun bool) {
	for _, a := range applied {
		change := strings.ToLower(strings.TrimPrefix(a.GetChange().String(), "CHANGE_"))
		if dryRun {
			change += " (dry run)"
		}
		fmt.Fprintf(w, "%s %s/%s version %d %s\n", a.GetKind(), a.GetTenant(), a.GetName(), a.GetVersion(), change)
	}
}

// readDefinitions reads every YAML document of the files and folders, in the order of their names.
func readDefinitions(paths []string, stdin io.Reader) ([]*definitionv1.Definition, error) {
	var defs []*definitionv1.Definition
	for _, path := range paths {
		if path == "-" {
			read, err := definition.ParseYAML(stdin, "standard input")
			if err != nil {
				return nil, err
			}
			defs = append(defs, read...)
			continue
		}
		files, err := yamlFiles(path)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			read, err := readDefinitionFile(file)
			if err != nil {
				return nil, err
			}
			defs = append(defs, read...)
		}
	}
	if len(defs) == 0 {
		return nil, errors.New("no definition in what was given")
	}
	return defs, nil
}

func readDefinitionFile(path string) ([]*definitionv1.Definition, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening definitions: %w", err)
	}
	defer file.Close() //nolint:errcheck // read only
	return definition.ParseYAML(file, path)
}

func yamlFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("opening definitions: %w", err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var files []string
	err = filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
		if ext := filepath.Ext(name); err == nil && !entry.IsDir() && (ext == ".yaml" || ext == ".yml") {
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the folder %s: %w", path, err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no .yaml file in the folder %s", path)
	}
	sort.Strings(files)
	return files, nil
}

// getCmd is `sillage get`.
type getCmd struct {
	remote
	Kind   string `arg:"" optional:"" help:"tenant, source, tracking_plan, segment, score, journey, channel or template; all if not given."`
	Name   string `arg:"" optional:"" help:"Name of one definition."`
	Tenant string `help:"Only of this tenant; required with a name."`
}

// Run prints the definitions as YAML that apply reads again.
func (c *getCmd) Run(ctx context.Context, streams Streams) error {
	if c.Name != "" && c.Tenant == "" {
		return errors.New("a name needs --tenant")
	}
	return c.call(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		defs, err := c.fetch(ctx, controlv1.NewDefinitionServiceClient(conn))
		if err != nil {
			return err
		}
		for i, def := range defs {
			text, err := definition.FormatYAML(def)
			if err != nil {
				return fmt.Errorf("printing %s %s: %w", definition.Kind(def), def.GetName(), err)
			}
			if i > 0 {
				fmt.Fprintln(streams.Out, "---")
			}
			fmt.Fprint(streams.Out, string(text))
		}
		return nil
	})
}

func (c *getCmd) fetch(ctx context.Context, client controlv1.DefinitionServiceClient) ([]*definitionv1.Definition, error) {
	if c.Name == "" {
		resp, err := client.ListDefinitions(ctx, &controlv1.ListDefinitionsRequest{Tenant: c.Tenant, Kind: c.Kind})
		return resp.GetDefinitions(), err
	}
	resp, err := client.GetDefinition(ctx, &controlv1.GetDefinitionRequest{Tenant: c.Tenant, Kind: c.Kind, Name: c.Name})
	if err != nil {
		return nil, err
	}
	return []*definitionv1.Definition{resp.GetDefinition()}, nil
}

// deleteCmd is `sillage delete`.
type deleteCmd struct {
	remote
	Kind   string `arg:"" help:"tenant, source, tracking_plan, segment, score, journey, channel or template."`
	Name   string `arg:"" help:"Name of the definition."`
	Tenant string `required:"" help:"Tenant of the definition."`
}

// Run deletes one definition.
func (c *deleteCmd) Run(ctx context.Context, streams Streams) error {
	return c.call(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := controlv1.NewDefinitionServiceClient(conn).DeleteDefinition(ctx,
			&controlv1.DeleteDefinitionRequest{Tenant: c.Tenant, Kind: c.Kind, Name: c.Name})
		if err == nil {
			fmt.Fprintf(streams.Out, "%s %s/%s deleted\n", c.Kind, c.Tenant, c.Name)
		}
		return err
	})
}
