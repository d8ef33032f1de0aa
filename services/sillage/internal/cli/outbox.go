package cli

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/sillage-cdp/sillage/services/sillage/internal/outbox"
)

// outboxCmd is `sillage outbox`.
type outboxCmd struct {
	DataDir string `help:"Data directory of sillage up." default:"data" env:"SILLAGE_DATA_DIR"`
	Show    string `help:"Print the text of one mail: its file name, with or without .eml."`
	Last    int    `help:"List only the newest." default:"20"`
}

// Run lists the mails that left, oldest first, or prints one.
func (c *outboxCmd) Run(streams Streams) error {
	dir := filepath.Join(c.DataDir, "outbox")
	if c.Show != "" {
		return c.show(streams, dir)
	}
	mails, err := outbox.List(dir)
	if err != nil {
		return err
	}
	t := table.NewWriter()
	t.SetOutputMirror(streams.Out)
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"date", "to", "subject", "file"})
	for _, m := range mails[max(0, len(mails)-c.Last):] {
		t.AppendRow(table.Row{m.Date.UTC().Format("2006-01-02 15:04:05"), m.To, m.Subject, filepath.Base(m.File)})
	}
	t.AppendFooter(table.Row{"", "", fmt.Sprintf("%d mails", len(mails)), dir})
	t.Render()
	return nil
}

func (c *outboxCmd) show(streams Streams, dir string) error {
	name := strings.TrimSuffix(c.Show, ".eml") + ".eml"
	if filepath.Base(name) != name {
		return errors.New("--show takes the name of a file of the outbox, not a path")
	}
	m, err := outbox.Read(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	fmt.Fprintf(streams.Out, "to:      %s\nsubject: %s\ndate:    %s\n\n", m.To, m.Subject, m.Date.UTC())
	text, ok := m.Bodies["text/plain"]
	if !ok {
		text = m.Bodies["text/html"]
	}
	fmt.Fprintln(streams.Out, text)
	return nil
}
