package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse/internal/chdb"
	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse/internal/statement"
)

// Codes of ClickHouse that this package raises itself or maps to an HTTP status.
const (
	codeIncorrectData       = 117
	codeNotImplemented      = 48
	codeSyntaxError         = 62
	codeQueryTooLarge       = 66
	codeReadonly            = 164
	codeTooManyQueries      = 202
	codeOutfileNotAllowed   = 371
	codeSessionNotFound     = 372
	codeSessionLocked       = 373
	codeQueryCancelled      = 394
	codeBadRequestParameter = 36
	codeAccessDenied        = 497
	codeStandardException   = 1001
)

// exception is an error as ClickHouse states it.
type exception struct {
	code    int
	message string // whole, from "Code: " on
}

func (e *exception) Error() string { return e.message }

func exceptionf(code int, name, format string, args ...any) *exception {
	return &exception{code: code, message: fmt.Sprintf("Code: %d. DB::Exception: %s. (%s)", code, fmt.Sprintf(format, args...), name)}
}

var (
	codePattern = regexp.MustCompile(`^Code: (\d+)\. DB::Exception: `)
	// nestedPattern matches the prefix that the library repeats when an error passes its layers.
	nestedPattern = regexp.MustCompile(`^(Code: \d+\. DB::Exception: )(?:Code: \d+\. DB::Exception: )+`)
)

// asException makes a ClickHouse exception of any error of this package or of the engine.
func asException(err error, version string) *exception {
	var ex *exception
	var engine *chdb.Error
	switch {
	case errors.As(err, &ex):
	case errors.As(err, &engine):
		ex = parseException(engine.Message)
	case errors.Is(err, statement.ErrEmpty):
		ex = exceptionf(codeSyntaxError, "SYNTAX_ERROR", "Syntax error: Empty query")
	case errors.Is(err, statement.ErrMultiple):
		ex = exceptionf(codeSyntaxError, "SYNTAX_ERROR", "Syntax error (Multi-statements are not allowed)")
	case errors.Is(err, statement.ErrServerFile):
		ex = exceptionf(codeOutfileNotAllowed, "INTO_OUTFILE_NOT_ALLOWED", "INTO OUTFILE and FROM INFILE are not allowed over HTTP")
	case errors.Is(err, statement.ErrForeignValues):
		ex = exceptionf(codeAccessDenied, "ACCESS_DENIED", "Not enough privileges: %s in the embedded engine (setting external_sources)", err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		ex = exceptionf(codeQueryCancelled, "QUERY_WAS_CANCELLED", "The request ended before the query did")
	default:
		ex = exceptionf(codeStandardException, "STD_EXCEPTION", "%s", err)
	}
	if !strings.Contains(ex.message, "(version ") {
		return &exception{code: ex.code, message: ex.message + " (version " + version + ")"}
	}
	return ex
}

func parseException(message string) *exception {
	message = strings.TrimSpace(strings.TrimPrefix(message, "Error: "))
	message = nestedPattern.ReplaceAllString(message, "$1")
	m := codePattern.FindStringSubmatch(message)
	if m == nil {
		return exceptionf(codeStandardException, "STD_EXCEPTION", "%s", strings.TrimSuffix(message, "."))
	}
	code, err := strconv.Atoi(m[1])
	if err != nil {
		code = codeStandardException
	}
	return &exception{code: code, message: message}
}

// status is the HTTP status that ClickHouse answers an exception with.
func (e *exception) status() int {
	switch e.code {
	case 6, 25, 26, 27, 38, 41, 72, // what cannot be parsed: text, escapes, quotes, dates, numbers
		61, codeSyntaxError, 65, codeIncorrectData, 53, 167, 168, 223, 43:
		return http.StatusBadRequest
	case 46, 47, 50, 56, 60, 63, 73, 78, 81, 93, 115, 336: // what is unknown: functions, tables, settings, formats
		return http.StatusNotFound
	case codeQueryTooLarge:
		return http.StatusRequestEntityTooLarge
	case codeNotImplemented:
		return http.StatusNotImplemented
	case 159:
		return http.StatusRequestTimeout
	case 381:
		return http.StatusLengthRequired
	case codeTooManyQueries, 209, 76, 439:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
