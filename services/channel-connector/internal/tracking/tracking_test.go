package tracking_test

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/tracking"
)

func signer(t testing.TB) *tracking.Signer {
	t.Helper()
	s, err := tracking.NewSigner(bytes.Repeat([]byte{7}, 32))
	require.NoError(t, err)
	return s
}

var send = &deliveryv1.Send{SendId: "s1", Tenant: "demo", ProfileId: "p1", Channel: "email", Journey: "j", Step: "mail", Template: "t"}

func TestTokensReadBack(t *testing.T) {
	s := signer(t)
	want := &deliveryv1.Outcome{SendId: "s1", Tenant: "demo", Url: "https://bank.example/?a=b&c=d", Type: deliveryv1.OutcomeType_OUTCOME_TYPE_CLICKED}
	token, err := s.Sign(want)
	require.NoError(t, err)
	got, err := s.Open(token)
	require.NoError(t, err)
	require.True(t, want.EqualVT(got))
}

func TestAnyChangeIsRefused(t *testing.T) {
	s := signer(t)
	token, err := s.Sign(&deliveryv1.Outcome{SendId: "s1", Url: "https://bank.example"})
	require.NoError(t, err)
	for i := range token {
		for _, c := range []byte{'A', 'b', '-'} {
			if token[i] == c {
				continue
			}
			_, err := s.Open(token[:i] + string(c) + token[i+1:])
			require.ErrorIs(t, err, tracking.ErrToken, "position %d", i)
		}
	}
	other, err := tracking.NewSigner(bytes.Repeat([]byte{8}, 32))
	require.NoError(t, err)
	_, err = other.Open(token)
	require.ErrorIs(t, err, tracking.ErrToken)
}

func TestAShortKeyIsRefused(t *testing.T) {
	_, err := tracking.NewSigner([]byte("short"))
	require.ErrorContains(t, err, "at least 32")
}

func FuzzOpen(f *testing.F) {
	s := signer(f)
	token, err := s.Sign(&deliveryv1.Outcome{SendId: "s1"})
	require.NoError(f, err)
	f.Add(token)
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := s.Open(text); err == nil {
			again, err := s.Sign(got)
			require.NoError(t, err)
			require.Equal(t, text, again, "only what was signed opens")
		}
	})
}

var hrefs = regexp.MustCompile(`href="([^"]*)"`)

func TestRewriteTracksLinksAndNothingElse(t *testing.T) {
	linker := tracking.NewLinker(signer(t), "https://t.example/", send)
	unsubscribe, err := linker.Unsubscribe()
	require.NoError(t, err)
	body := `<html><body><p class='x'>Hi &amp; bye</p><a href="https://bank.example/resume?a=1&amp;b=2">go</a>` +
		`<a href="mailto:x@bank.example">m</a><a href="#top">t</a><a href="` + unsubscribe + `">u</a></body></html>`
	got, err := linker.Rewrite(body)
	require.NoError(t, err)

	links := hrefs.FindAllStringSubmatch(got, -1)
	require.Len(t, links, 4)
	require.True(t, strings.HasPrefix(links[0][1], "https://t.example/t/c/"))
	click, err := signer(t).Open(strings.TrimPrefix(links[0][1], "https://t.example/t/c/"))
	require.NoError(t, err)
	require.Equal(t, "https://bank.example/resume?a=1&b=2", click.GetUrl())
	require.Equal(t, "s1", click.GetSendId())
	require.Equal(t, []string{"mailto:x@bank.example", "#top", unsubscribe}, []string{links[1][1], links[2][1], links[3][1]})
	require.Contains(t, got, `<p class='x'>Hi &amp; bye</p>`, "the rest stays to the letter")
	require.Regexp(t, `<img src="https://t.example/t/o/[^"]+"[^>]*></body></html>$`, got)
}

func TestAFragmentGetsThePixelAtItsEnd(t *testing.T) {
	got, err := tracking.NewLinker(signer(t), "https://t.example", send).Rewrite("<p>hi</p>")
	require.NoError(t, err)
	require.Regexp(t, `^<p>hi</p><img `, got)
}
