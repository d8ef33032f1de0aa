// Package schema makes the analysts' tables and views in ClickHouse. The SQL files are the reference:
// every column has its comment there, and DESCRIBE shows it.
//
// Tables only ever gain columns; views are replaced. Applying the schema again changes nothing.
package schema

import (
	"context"
	_ "embed" // the SQL
	"fmt"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

//go:embed tables.sql
var tables string

//go:embed columns.sql
var columns string

//go:embed views.sql
var views string

// Apply makes what is missing in the connection's database. Several instances may do so at once.
func Apply(ctx context.Context, conn driver.Conn) error {
	for _, statement := range slices.Concat(split(tables), split(columns), split(views)) {
		if err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("making the schema: %w\nin: %s", err, firstLine(statement))
		}
	}
	return nil
}

// split cuts a file into statements; a line that begins with -- is a comment.
func split(text string) []string {
	var plain strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(strings.TrimSpace(line), "--") {
			plain.WriteString(line)
		}
	}
	var statements []string
	for statement := range strings.SplitSeq(plain.String(), ";\n") {
		if s := strings.TrimSuffix(strings.TrimSpace(statement), ";"); s != "" {
			statements = append(statements, s)
		}
	}
	return statements
}

func firstLine(statement string) string {
	line, _, _ := strings.Cut(statement, "\n")
	return line
}
