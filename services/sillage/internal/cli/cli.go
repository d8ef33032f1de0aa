// Package cli is the command line of Sillage: one struct shows the whole tree of commands, one file
// holds each command. A command's Run gets the context that ends on interrupt and the streams to use.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// Streams are where a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// tree is the tree of commands.
type tree struct {
	Up      upCmd      `cmd:"" help:"Run everything in one process until interrupted."`
	Demo    demoCmd    `cmd:"" help:"Import a real history, play a bank's two hours, print a report."`
	Apply   applyCmd   `cmd:"" help:"Apply definitions from YAML files."`
	Get     getCmd     `cmd:"" help:"Print definitions as YAML."`
	Delete  deleteCmd  `cmd:"" help:"Delete a definition."`
	Import  importCmd  `cmd:"" help:"Import events, or rows of other systems, from JSON Lines or CSV files."`
	Profile profileCmd `cmd:"" help:"Look at profiles."`
	SQL     sqlCmd     `cmd:"" name:"sql" help:"Run a query on ClickHouse."`
	Ledger  ledgerCmd  `cmd:"" help:"Check what came in against what is stored."`
	DLQ     dlqCmd     `cmd:"" name:"dlq" help:"List, show and put back what stages could not handle."`
	Outbox  outboxCmd  `cmd:"" help:"List the mails that left, or print one."`
	Tail    tailCmd    `cmd:"" help:"Show events as they come in, and why others are refused."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// Main runs the command line and returns the exit code.
func Main(args []string, in io.Reader, out, errs io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	streams := Streams{In: in, Out: out, Err: errs}
	var commands tree
	exited, code := false, 0
	parser, err := kong.New(&commands,
		kong.Name("sillage"),
		kong.Description("Sillage, a real-time customer data platform that activates. Flags of `up` can also be set in the environment and in a file; see services/sillage/README.md."),
		kong.UsageOnError(),
		kong.Writers(out, errs),
		kong.Exit(func(c int) { exited, code = true, c }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(streams),
	)
	if err != nil {
		fmt.Fprintln(errs, "sillage:", err)
		return 2
	}
	parsed, err := parser.Parse(args)
	if exited {
		return code
	}
	if err != nil {
		fmt.Fprintln(errs, "sillage:", err, "(sillage --help lists the commands)")
		return 2
	}
	if err := parsed.Run(); err != nil {
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			fmt.Fprintln(errs, "sillage: interrupted")
			return 130
		}
		fmt.Fprintln(errs, "sillage:", err)
		return 1
	}
	return 0
}
