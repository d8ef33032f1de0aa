package outbox_test

import (
	"context"
	"log/slog"
	"net/smtp"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/services/sillage/internal/outbox"
)

func start(t *testing.T) (*outbox.Server, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "outbox")
	s := outbox.New(outbox.Config{Addr: "127.0.0.1:0", Dir: dir}, slog.New(slog.DiscardHandler))
	require.NoError(t, s.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, s.Stop(context.Background())) })
	return s, dir
}

func send(t *testing.T, s *outbox.Server, mail string) error {
	t.Helper()
	return smtp.SendMail(s.Addr(), nil, "bank@example.com", []string{"ada@example.com"}, []byte(mail))
}

const mail = "From: bank@example.com\r\nTo: ada@example.com\r\nSubject: =?utf-8?q?Votre_pr=C3=AAt?=\r\n" +
	"Date: Sun, 01 Mar 2026 12:00:00 +0000\r\nMessage-ID: <send-1@sillage>\r\n" +
	"Content-Type: multipart/alternative; boundary=b\r\n\r\n" +
	"--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n" +
	"--b\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<a href=3D\"x\">hello</a>\r\n--b--\r\n"

func TestKeepsAMailThatReadsBack(t *testing.T) {
	s, dir := start(t)
	require.NoError(t, send(t, s, mail))

	mails, err := outbox.List(dir)
	require.NoError(t, err)
	require.Len(t, mails, 1)
	require.Equal(t, filepath.Join(dir, "send-1.eml"), mails[0].File)
	require.Equal(t, "Votre prêt", mails[0].Subject)
	require.Contains(t, mails[0].Bodies["text/plain"], "hello")
	require.Contains(t, mails[0].Bodies["text/html"], `<a href="x">`)
}

func TestSameMessageIDIsKeptOnce(t *testing.T) {
	s, dir := start(t)
	require.NoError(t, send(t, s, mail))
	require.NoError(t, send(t, s, mail))
	require.EqualValues(t, 1, s.Kept())
	require.EqualValues(t, 1, s.Duplicates())
	mails, err := outbox.List(dir)
	require.NoError(t, err)
	require.Len(t, mails, 1)
}

func TestMessageIDNeverLeavesTheFolder(t *testing.T) {
	s, dir := start(t)
	require.NoError(t, send(t, s, "From: a@b\r\nMessage-ID: <../../evil@x>\r\n\r\nhi\r\n"))
	entries, err := os.ReadDir(filepath.Dir(dir))
	require.NoError(t, err)
	require.Len(t, entries, 1)
	mails, err := outbox.List(dir)
	require.NoError(t, err)
	require.Len(t, mails, 1)
}

func TestFullDiskIsATemporaryRefusal(t *testing.T) {
	s, dir := start(t)
	require.NoError(t, os.RemoveAll(dir)) // stands for a folder that takes no file
	require.ErrorContains(t, send(t, s, mail), "452")
}

func TestListWithoutAnOutboxSaysWhatToDo(t *testing.T) {
	_, err := outbox.List(filepath.Join(t.TempDir(), "none"))
	require.ErrorContains(t, err, "--data-dir")
}
