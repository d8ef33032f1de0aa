package clickhouse

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// LibraryEnv is the environment variable that names libchdb.so for tests and for anyone who keeps
// it elsewhere than `make engines` does.
const LibraryEnv = "SILLAGE_CLICKHOUSE_LIB"

// ErrNoLibrary is wrapped by the error of [Locate] when the library is nowhere to be found.
var ErrNoLibrary = errors.New("ClickHouse library not found")

// Locate finds libchdb.so: the explicit path if one is given (a flag, a setting), else the path in
// [LibraryEnv], else .engines/node_modules/@chdb/<platform>/ in the working directory and each of
// its parents, else in ../.engines beside the executable. The error names every place looked at
// and what to do.
func Locate(explicit string) (string, error) {
	for _, named := range []struct{ path, by string }{
		{explicit, "the configuration"},
		{os.Getenv(LibraryEnv), LibraryEnv},
	} {
		if named.path == "" {
			continue
		}
		if err := regularFile(named.path); err != nil {
			return "", fmt.Errorf("%w: %s names %q: %w; correct the path, or leave it out and run `make engines`",
				ErrNoLibrary, named.by, named.path, err)
		}
		return named.path, nil
	}
	relative, err := installedPath(runtime.GOOS, runtime.GOARCH)
	if err != nil {
		return "", err
	}
	roots := searchRoots()
	for _, root := range roots {
		path := filepath.Join(root, relative)
		if regularFile(path) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: no %s in %s; run `make engines` (it needs Node's npm), or name the library in %s,"+
		" or use a ClickHouse of your own by setting its address",
		ErrNoLibrary, relative, strings.Join(roots, ", "), LibraryEnv)
}

// installedPath is where npm puts the library of a platform, below the folder of an installation.
func installedPath(goos, goarch string) (string, error) {
	platform, ok := map[string]string{
		"linux/amd64":  "lib-linux-x64-gnu",
		"linux/arm64":  "lib-linux-arm64-gnu",
		"darwin/arm64": "lib-darwin-arm64",
		"darwin/amd64": "lib-darwin-x64",
	}[goos+"/"+goarch]
	if !ok {
		return "", fmt.Errorf("%w: it is not published for %s/%s; use a ClickHouse of your own by setting its address",
			ErrNoLibrary, goos, goarch)
	}
	return filepath.Join(".engines", "node_modules", "@chdb", platform, "libchdb.so"), nil
}

// searchRoots lists the folders that may hold .engines, nearest first.
func searchRoots() []string {
	var roots []string
	if dir, err := os.Getwd(); err == nil {
		for {
			roots = append(roots, dir)
			parent := filepath.Dir(dir)
			if parent == dir {
				break
			}
			dir = parent
		}
	}
	if exe, err := os.Executable(); err == nil {
		if resolved, err := filepath.EvalSymlinks(exe); err == nil {
			exe = resolved
		}
		roots = append(roots, filepath.Dir(filepath.Dir(exe)))
	}
	return roots
}

func regularFile(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
			return pathErr.Err
		}
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	return nil
}
