// Package chdb binds the C interface of libchdb, ClickHouse as a library, without cgo.
//
// It promises memory safety at the border and nothing more: every result and stream has one owner
// and is destroyed exactly once, bytes that leave the library are copied before their result dies,
// and the library never replaces the signal handlers of the Go runtime (see [Load]). It knows no
// HTTP, no pooling and no settings; those are in the parent package.
//
// Limits, all of them the library's: one data directory a process, one statement at a time on a
// connection, and no use of the library again after [Library.Shutdown]. The tests of the parent
// package run everything here against the real library.
package chdb

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/ebitengine/purego"
)

// Library is a loaded libchdb. It is safe for concurrent use; its connections are not.
type Library struct {
	api api
}

// api holds the entry points. Pointers are opaque handles, lengths are size_t.
type api struct {
	version           func() string
	setSignalHandlers func(enabled int32)
	shutdown          func() int32

	connect   func(argc int32, argv unsafe.Pointer) unsafe.Pointer
	closeConn func(conn unsafe.Pointer)

	query       func(conn, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, count uintptr) unsafe.Pointer
	streamQuery func(conn, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, count uintptr) unsafe.Pointer
	fetch       func(conn, stream unsafe.Pointer) unsafe.Pointer
	cancelQuery func(conn, stream unsafe.Pointer)

	streamInsert  func(conn, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, count uintptr) unsafe.Pointer
	insertError   func(stream unsafe.Pointer) string
	appendData    func(stream, data unsafe.Pointer, size uintptr) int32
	insertDone    func(stream unsafe.Pointer) unsafe.Pointer
	cancelInsert  func(stream unsafe.Pointer)
	destroyInsert func(stream unsafe.Pointer)

	buffer           func(result unsafe.Pointer) unsafe.Pointer
	length           func(result unsafe.Pointer) uintptr
	resultError      func(result unsafe.Pointer) string
	resultRows       func(result unsafe.Pointer) uint64
	resultBytes      func(result unsafe.Pointer) uint64
	storageRowsRead  func(result unsafe.Pointer) uint64
	storageBytesRead func(result unsafe.Pointer) uint64
	rowsWritten      func(result unsafe.Pointer) uint64
	bytesWritten     func(result unsafe.Pointer) uint64
	destroy          func(result unsafe.Pointer)

	classify func(conn, sql unsafe.Pointer, sqlLen uintptr, db unsafe.Pointer, dbLen uintptr, out unsafe.Pointer) int32
}

// Load opens the shared library at path and forbids it to install signal handlers, which belong to
// the Go runtime (a nil dereference must stay a recoverable panic). The library stays loaded for
// the life of the process; load it once.
func Load(path string) (*Library, error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return nil, fmt.Errorf("loading %s: %w", path, err)
	}
	lib := &Library{}
	if err := lib.bind(handle); err != nil {
		return nil, fmt.Errorf("binding %s: %w", path, err)
	}
	if err := keepSignalHandlers(func() { lib.api.setSignalHandlers(0) }); err != nil {
		return nil, fmt.Errorf("keeping signal handlers while loading %s: %w", path, err)
	}
	return lib, nil
}

// bind resolves every symbol first, so that a library of another version is an error that names
// what is missing and not a panic in purego.
func (l *Library) bind(handle uintptr) error {
	a := &l.api
	symbols := []struct {
		name string
		fn   any
	}{
		{"chdb_version", &a.version},
		{"chdb_set_signal_handlers_enabled", &a.setSignalHandlers},
		{"chdb_shutdown", &a.shutdown},
		{"chdb_connect", &a.connect},
		{"chdb_close_conn", &a.closeConn},
		{"chdb_query_with_params_n", &a.query},
		{"chdb_stream_query_with_params_n", &a.streamQuery},
		{"chdb_stream_fetch_result", &a.fetch},
		{"chdb_stream_cancel_query", &a.cancelQuery},
		{"chdb_stream_insert_with_params_n", &a.streamInsert},
		{"chdb_stream_insert_error", &a.insertError},
		{"chdb_stream_append", &a.appendData},
		{"chdb_stream_done", &a.insertDone},
		{"chdb_stream_cancel_insert", &a.cancelInsert},
		{"chdb_destroy_insert_stream", &a.destroyInsert},
		{"chdb_result_buffer", &a.buffer},
		{"chdb_result_length", &a.length},
		{"chdb_result_error", &a.resultError},
		{"chdb_result_rows_read", &a.resultRows},
		{"chdb_result_bytes_read", &a.resultBytes},
		{"chdb_result_storage_rows_read", &a.storageRowsRead},
		{"chdb_result_storage_bytes_read", &a.storageBytesRead},
		{"chdb_result_rows_written", &a.rowsWritten},
		{"chdb_result_bytes_written", &a.bytesWritten},
		{"chdb_destroy_query_result", &a.destroy},
		{"chdb_classify_query_n", &a.classify},
	}
	var errs []error
	for _, s := range symbols {
		address, err := purego.Dlsym(handle, s.name)
		if err != nil {
			errs = append(errs, fmt.Errorf("entry point %s is missing: %w", s.name, err))
			continue
		}
		purego.RegisterFunc(s.fn, address)
	}
	return errors.Join(errs...)
}

// Version is the version that the library states of itself, such as "26.7.3".
func (l *Library) Version() string { return l.api.version() }

// Shutdown stops every thread of the engine. All connections must be closed first; afterwards the
// library cannot be used again in this process.
func (l *Library) Shutdown() error {
	if l.api.shutdown() != 0 {
		return errors.New("shutting the engine down: a connection is still open or a thread did not stop")
	}
	return nil
}
