package tracking

import (
	"bytes"
	"fmt"
	"io"
	"net/url"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
)

// Paths of the tracking endpoints; the token follows.
const (
	OpenPath        = "/t/o/"
	ClickPath       = "/t/c/"
	UnsubscribePath = "/t/u/"
)

// maxTarget is the longest address that a link is tracked to: a longer one would make a token that is
// not opened again. Such a link stays as it is.
const maxTarget = 2048

// Linker makes the links of one send.
type Linker struct {
	signer *Signer
	base   string
	send   *deliveryv1.Send
}

// NewLinker returns the linker of a send; base is the public address of the tracking endpoints without
// a slash at its end.
func NewLinker(signer *Signer, base string, send *deliveryv1.Send) Linker {
	return Linker{signer: signer, base: strings.TrimSuffix(base, "/"), send: send}
}

func (l Linker) link(path string, kind deliveryv1.OutcomeType, target string) (string, error) {
	token, err := l.signer.Sign(&deliveryv1.Outcome{
		SendId: l.send.GetSendId(), Tenant: l.send.GetTenant(), ProfileId: l.send.GetProfileId(), Channel: l.send.GetChannel(),
		Journey: l.send.GetJourney(), Step: l.send.GetStep(), Template: l.send.GetTemplate(), Type: kind, Url: target,
	})
	return l.base + path + token, err
}

// Unsubscribe is the address that unsubscribes.
func (l Linker) Unsubscribe() (string, error) {
	return l.link(UnsubscribePath, deliveryv1.OutcomeType_OUTCOME_TYPE_UNSUBSCRIBED, "")
}

// Click is the address that counts a click and leads to target.
func (l Linker) Click(target string) (string, error) {
	return l.link(ClickPath, deliveryv1.OutcomeType_OUTCOME_TYPE_CLICKED, target)
}

// Open is the address of the pixel that counts an open.
func (l Linker) Open() (string, error) {
	return l.link(OpenPath, deliveryv1.OutcomeType_OUTCOME_TYPE_OPENED, "")
}

// Rewrite replaces every http(s) link of an HTML body by one that counts the click, but those that begin
// with the tracking endpoints' own address, and adds the pixel at the end of the body.
func (l Linker) Rewrite(body string) (string, error) {
	pixel, err := l.Open()
	if err != nil {
		return "", err
	}
	image := `<img src="` + html.EscapeString(pixel) + `" width="1" height="1" alt="" style="display:none">`
	var out bytes.Buffer
	placed := false
	tokens := html.NewTokenizer(strings.NewReader(body))
	for {
		kind := tokens.Next()
		if kind == html.ErrorToken {
			if err := tokens.Err(); err != io.EOF { //nolint:errorlint // the tokenizer's documented end
				return "", fmt.Errorf("reading the HTML body: %w", err)
			}
			break
		}
		raw := string(tokens.Raw())
		token := tokens.Token()
		switch {
		case kind == html.EndTagToken && token.DataAtom == atom.Body && !placed:
			out.WriteString(image)
			placed = true
		case kind == html.StartTagToken && token.DataAtom == atom.A:
			changed, err := l.rewriteAnchor(&token)
			if err != nil {
				return "", err
			}
			if changed {
				raw = token.String()
			}
		}
		out.WriteString(raw)
	}
	if !placed {
		out.WriteString(image)
	}
	return out.String(), nil
}

func (l Linker) rewriteAnchor(token *html.Token) (bool, error) {
	for i, attr := range token.Attr {
		if attr.Key != "href" || !l.tracked(attr.Val) {
			continue
		}
		link, err := l.Click(attr.Val)
		if err != nil {
			return false, err
		}
		token.Attr[i].Val = link
		return true, nil
	}
	return false, nil
}

func (l Linker) tracked(target string) bool {
	u, err := url.Parse(target)
	return err == nil && len(target) <= maxTarget && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && !strings.HasPrefix(target, l.base+"/t/")
}
