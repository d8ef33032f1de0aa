package enrich

import (
	"net/url"
	"strings"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
)

// clickID knows the parameters by which advertising networks know a click again: the network's kind of source, and
// whether only paid clicks carry it.
func clickID(parameter string) (kind siteKind, paid, known bool) {
	switch parameter {
	case "gclid", "gbraid", "wbraid", "msclkid", "yclid": // Google Ads, Microsoft Advertising, Yandex Direct
		return search, true, true
	case "dclid": // Google Display & Video 360
		return display, true, true
	case "ttclid", "twclid", "li_fat_id", "ScCid", "rdt_cid": // TikTok, X, LinkedIn, Snapchat, Reddit: ads only
		return social, true, true
	case "fbclid", "igshid", "epik": // Meta and Pinterest put them into every link
		return social, false, true
	}
	return none, false, false
}

// fillCampaign reads campaign and click id from the address of the page. A campaign that the producer states
// stands as it is: two campaigns are never mixed.
func fillCampaign(ev *eventv1.Event) {
	query := queryOf(ev.GetPage())
	if query == "" || !strings.Contains(query, "utm_") && !strings.Contains(query, "id=") && !strings.Contains(query, "epik=") {
		return
	}
	found := &eventv1.Campaign{}
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		if value == "" {
			continue
		}
		if _, _, known := clickID(name); known {
			if found.ClickId == "" {
				found.ClickIdType, found.ClickId = name, unescape(value)
			}
			continue
		}
		if at := utm(found, name); at != nil && *at == "" {
			*at = unescape(value)
		}
	}
	stated := ev.GetCampaign()
	switch {
	case stated == nil && found.SizeVT() > 0:
		ev.Campaign = found
	case stated != nil:
		stated.ClickId, stated.ClickIdType = found.ClickId, found.ClickIdType
	}
}

func utm(c *eventv1.Campaign, parameter string) *string {
	switch parameter {
	case "utm_source":
		return &c.Source
	case "utm_medium":
		return &c.Medium
	case "utm_campaign":
		return &c.Name
	case "utm_term":
		return &c.Term
	case "utm_content":
		return &c.Content
	}
	return nil
}

// queryOf is the page's query without its question mark: as stated, else from the address.
func queryOf(page *eventv1.Page) string {
	if query := strings.TrimPrefix(page.GetSearch(), "?"); query != "" {
		return query
	}
	_, query, _ := strings.Cut(page.GetUrl(), "?")
	query, _, _ = strings.Cut(query, "#")
	return query
}

// unescape decodes a value; what is not encoded well stays as it is.
func unescape(text string) string {
	if !strings.ContainsAny(text, "%+") {
		return text
	}
	out, err := url.QueryUnescape(text)
	if err != nil {
		return text
	}
	return strings.ToValidUTF8(out, "\uFFFD")
}
