package enrich

import (
	"slices"
	"strings"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
)

// Channel is what brought the visitor, after the rules of Google Analytics 4's default channel group
// (https://support.google.com/analytics/answer/9756891), in their order, with click ids for those networks
// whose links carry no utm parameters. An event of a page that somebody came to from another page of the same
// site, and one that names no page, says nothing of it: blank.
func Channel(ev *eventv1.Event) string {
	t := touchOf(ev)
	switch {
	case !t.stated && !t.page:
		return ""
	case !t.stated && t.internal:
		return ""
	case !t.stated && t.source == "":
		return "direct"
	}
	kind := kindOf(t.source)
	if kind == none {
		kind = t.clickKind
	}
	if c := paidChannel(t, kind); c != "" {
		return c
	}
	return freeChannel(t, kind)
}

// touch is what an event says of how the visitor came.
type touch struct {
	stated    bool // by a campaign or a click id
	page      bool // there is a page
	internal  bool // the referrer is the same site
	source    string
	medium    string
	campaign  string
	clickKind siteKind
	clickPaid bool
}

func touchOf(ev *eventv1.Event) touch {
	page, c := ev.GetPage(), ev.GetCampaign()
	t := touch{page: page != nil, medium: strings.ToLower(c.GetMedium()), campaign: strings.ToLower(c.GetName())}
	t.source = strings.ToLower(c.GetSource())
	t.clickKind, t.clickPaid, _ = clickID(c.GetClickIdType())
	t.stated = t.source != "" || t.medium != "" || t.campaign != "" || t.clickKind != none
	if t.stated || !t.page {
		return t
	}
	if t.source = hostOf(page.GetReferrer()); t.source != "" {
		t.internal = sameSite(t.source, hostOf(page.GetUrl()))
		t.medium = "referral"
	}
	return t
}

// paidChannel is the channel of what was paid for; blank if it was not.
func paidChannel(t touch, kind siteKind) string {
	paid := t.clickPaid || paidMedium(t.medium)
	switch {
	case strings.Contains(t.campaign, "cross-network"):
		return "cross_network"
	case paid && (kind == shopping || shoppingCampaign(t.campaign)):
		return "paid_shopping"
	case paid && kind == search:
		return "paid_search"
	case paid && kind == social:
		return "paid_social"
	case paid && kind == video:
		return "paid_video"
	case kind == display && t.clickPaid, one(t.medium, "display", "banner", "expandable", "interstitial", "cpm"):
		return "display"
	case paid:
		return "paid_other"
	}
	return ""
}

// freeChannel is the channel of everything else.
func freeChannel(t touch, kind siteKind) string {
	switch {
	case kind == shopping, shoppingCampaign(t.campaign):
		return "organic_shopping"
	case kind == social, one(t.medium, "social", "social-network", "social-media", "sm", "social network", "social media"):
		return "organic_social"
	case kind == video, strings.Contains(t.medium, "video"):
		return "organic_video"
	case kind == search, t.medium == "organic":
		return "organic_search"
	case kind == mail, one(t.source, "email", "e-mail", "e_mail", "e mail"), one(t.medium, "email", "e-mail", "e_mail", "e mail"):
		return "email"
	case one(t.medium, "referral", "app", "link"):
		return "referral"
	case one(t.medium, "affiliate", "affiliates"):
		return "affiliates"
	case t.medium == "audio":
		return "audio"
	case t.source == "sms", t.medium == "sms":
		return "sms"
	case strings.HasSuffix(t.medium, "push"), strings.Contains(t.medium, "mobile"), strings.Contains(t.medium, "notification"), t.source == "firebase":
		return "mobile_push"
	}
	return "unassigned"
}

// paidMedium is ^(.*cp.*|ppc|retargeting|paid.*)$.
func paidMedium(medium string) bool {
	return strings.Contains(medium, "cp") || one(medium, "ppc", "retargeting") || strings.HasPrefix(medium, "paid")
}

// shoppingCampaign is ^(.*(([^a-df-z]|^)shop|shopping).*)$: `shop` where a word begins, or `shopping`.
func shoppingCampaign(name string) bool {
	if strings.Contains(name, "shopping") {
		return true
	}
	for from := 0; ; {
		i := strings.Index(name[from:], "shop")
		if i < 0 {
			return false
		}
		i += from
		if i == 0 || name[i-1] == 'e' || name[i-1] < 'a' || name[i-1] > 'z' {
			return true
		}
		from = i + 1
	}
}

func one(text string, of ...string) bool { return slices.Contains(of, text) }
