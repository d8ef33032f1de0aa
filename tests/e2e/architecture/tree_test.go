package architecture_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/sillage-cdp/sillage/"

// pkg is one package of the tree, without its tests.
type pkg struct {
	// dir is its folder, relative to the root, with slashes.
	dir   string
	files map[string]*ast.File
}

func (p pkg) imports() map[string]bool {
	all := map[string]bool{}
	for _, f := range p.files {
		for _, i := range f.Imports {
			path, err := strconv.Unquote(i.Path.Value)
			if err == nil {
				all[path] = true
			}
		}
	}
	return all
}

// load parses every hand-written package of the tree.
func load(t *testing.T) []pkg {
	t.Helper()
	root, err := filepath.Abs("../../..")
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(root, "go.work"))
	packages := map[string]*pkg{}
	set := token.NewFileSet()
	for _, top := range []string{"pkg", "services", "tests"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() && (entry.Name() == "testdata" || strings.HasPrefix(entry.Name(), "_")) {
				return firstOf(err, fs.SkipDir)
			}
			if entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			file, err := parser.ParseFile(set, path, nil, parser.ParseComments)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return err
			}
			dir := filepath.ToSlash(rel)
			if packages[dir] == nil {
				packages[dir] = &pkg{dir: dir, files: map[string]*ast.File{}}
			}
			packages[dir].files[filepath.Base(path)] = file
			return nil
		})
		require.NoError(t, err)
	}
	require.NotEmpty(t, packages)
	list := make([]pkg, 0, len(packages))
	for _, p := range packages {
		list = append(list, *p)
	}
	return list
}

func firstOf(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// service is the service that a folder belongs to, or "".
func service(dir string) string {
	rest, ok := strings.CutPrefix(dir, "services/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

func TestEveryPackageSaysWhatItPromises(t *testing.T) {
	for _, p := range load(t) {
		documented := false
		for _, f := range p.files {
			documented = documented || f.Doc != nil && len(f.Doc.Text()) > 40
		}
		require.True(t, documented, "%s has no package comment", p.dir)
	}
}

func TestNoDrawers(t *testing.T) {
	for _, p := range load(t) {
		switch filepath.Base(p.dir) {
		case "util", "utils", "common", "misc", "helpers", "shared", "base":
			t.Errorf("%s: a package is named after what it does, not after being used in many places", p.dir)
		}
	}
}

func TestServicesMeetOnlyThroughTopics(t *testing.T) {
	for _, p := range load(t) {
		own := service(p.dir)
		for path := range p.imports() {
			rest, ok := strings.CutPrefix(path, module)
			if !ok {
				continue
			}
			other := service(rest)
			if other == "" || other == own {
				continue
			}
			whole := own == "sillage" || strings.HasPrefix(p.dir, "tests/")
			open := rest == "services/"+other+"/app" || strings.HasPrefix(rest, "services/"+other+"/examples")
			require.True(t, whole && open, "%s imports %s: services meet only through proto and topics", p.dir, rest)
		}
	}
}

func TestSharedPackagesKnowNoService(t *testing.T) {
	for _, p := range load(t) {
		if !strings.HasPrefix(p.dir, "pkg/") {
			continue
		}
		for path := range p.imports() {
			require.NotContains(t, path, module+"services/", "%s", p.dir)
		}
	}
}

func TestTheStreamRuntimeKnowsNoCustomers(t *testing.T) {
	allowed := map[string]bool{"pkg/stream": true, "pkg/kafka": true, "pkg/clock": true, "pkg/run": true, "pkg/telemetry": true, "pkg/topics": true}
	for _, p := range load(t) {
		if p.dir != "pkg/stream" && !strings.HasPrefix(p.dir, "pkg/stream/") {
			continue
		}
		for path := range p.imports() {
			rest, ok := strings.CutPrefix(path, module)
			if ok && !strings.HasPrefix(rest, "pkg/stream/") && !strings.HasPrefix(rest, "proto/gen/go/sillage/stream/") {
				require.True(t, allowed[rest], "%s imports %s", p.dir, rest)
			}
		}
	}
}

func TestOnlyConfigurationReadsTheEnvironment(t *testing.T) {
	allowed := map[string]string{
		"pkg/secret":  "resolves `env:` references",
		"pkg/service": "hands the environment to pkg/config",
	}
	for _, p := range load(t) {
		if strings.HasPrefix(p.dir, "tests/") || strings.HasSuffix(p.dir, "test") || allowed[p.dir] != "" || service(p.dir) == "sillage" || strings.HasPrefix(p.dir, "pkg/embedded/") {
			continue
		}
		for name, call := range calls(p) {
			if call == "os.Getenv" || call == "os.LookupEnv" {
				t.Errorf("%s reads the environment in %s: take the setting from the configuration", p.dir, name)
			}
		}
	}
}

// calls lists every `package.Function` that p calls, with where.
func calls(p pkg) map[string]string {
	found := map[string]string{}
	for name, f := range p.files {
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if id, ok := sel.X.(*ast.Ident); ok && id.Obj == nil {
				found[name+":"+strconv.Itoa(int(sel.Pos()))] = id.Name + "." + sel.Sel.Name
			}
			return true
		})
	}
	return found
}

func TestNoGeneratedOrHiddenPackagesAreMissed(t *testing.T) {
	entries, err := os.ReadDir("../../../services")
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, p := range load(t) {
		seen[service(p.dir)] = true
	}
	for _, e := range entries {
		require.True(t, seen[e.Name()], "services/%s has no package", e.Name())
	}
}
