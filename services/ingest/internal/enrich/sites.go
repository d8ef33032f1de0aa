package enrich

import "strings"

// siteKind is what kind of site a source is.
type siteKind uint8

const (
	none siteKind = iota
	search
	social
	video
	shopping
	mail
	display
)

// kindOf is the kind of a source: a host, or the short name that campaigns use. The list holds the sites that
// bring most visitors; Google Analytics' own (the table of its help page) has eight hundred.
func kindOf(source string) siteKind {
	source = strings.TrimPrefix(source, "www.")
	for rest := source; rest != ""; {
		if kind, known := exactSite(rest); known {
			return kind
		}
		_, rest, _ = strings.Cut(rest, ".")
	}
	return kindOfName(siteName(source))
}

// exactSite knows hosts, with all below them, and names that are no hosts.
func exactSite(host string) (kind siteKind, known bool) {
	switch host {
	case "mail.google.com", "com.google.android.gm", "outlook.live.com", "outlook.office.com", "outlook.office365.com",
		"mail.yahoo.com", "mail.aol.com", "mail.proton.me", "mail.ru", "gmx.net", "web.de", "deref-gmx.net", "deref-web.de",
		"newsletter", "mailchimp", "brevo":
		return mail, true
	case "news.google.com", "docs.google.com", "drive.google.com", "classroom.google.com", "sites.google.com":
		return none, true
	case "com.google.android.googlequicksearchbox", "search.brave.com", "search.yahoo.com", "ask.com", "aol.com", "so.com",
		"sm.cn", "search.marginalia.nu", "you.com", "presearch.com", "metager.de", "metager.org", "lilo.org":
		return search, true
	case "t.co", "x.com", "twitter.com", "fb.com", "fb.me", "fb", "m.me", "ig", "lnkd.in", "linkedin.com", "com.linkedin.android",
		"reddit.com", "redd.it", "out.reddit.com", "pinterest.com", "pin.it", "snapchat.com", "threads.net", "threads.com",
		"bsky.app", "tumblr.com", "vk.com", "ok.ru", "weibo.com", "weibo.cn", "wechat.com", "line.me", "xing.com", "quora.com",
		"mastodon.social", "news.ycombinator.com", "discord.com", "t.me", "telegram.me", "web.telegram.org", "whatsapp.com",
		"wa.me", "nextdoor.com", "medium.com", "stackexchange.com", "stackoverflow.com", "org.telegram.messenger":
		return social, true
	case "youtube.com", "youtu.be", "m.youtube.com", "vimeo.com", "dailymotion.com", "twitch.tv", "netflix.com", "youku.com",
		"bilibili.com", "wistia.com", "ted.com", "hulu.com":
		return video, true
	case "shopping.google.com", "shop.app", "etsy.com", "walmart.com", "aliexpress.com", "alibaba.com", "rakuten.co.jp",
		"idealo.de", "idealo.fr", "shopzilla.com", "mercadolibre.com", "shopping.yahoo.com", "pricerunner.com", "kelkoo.fr":
		return shopping, true
	case "doubleclick.net", "googlesyndication.com":
		return display, true
	}
	return none, false
}

// kindOfName knows sites by their name alone, since they stand under the domains of many countries.
func kindOfName(name string) siteKind {
	switch name {
	case "google", "bing", "yahoo", "duckduckgo", "baidu", "yandex", "ecosia", "qwant", "startpage", "naver", "seznam", "sogou",
		"daum", "kagi", "swisscows", "mojeek", "coccoc":
		return search
	case "facebook", "instagram", "twitter", "linkedin", "tiktok", "pinterest", "reddit", "snapchat", "threads", "whatsapp", "telegram":
		return social
	case "youtube", "vimeo", "dailymotion", "twitch":
		return video
	case "amazon", "ebay", "etsy", "zalando", "cdiscount", "mercadolibre", "mercadolivre", "aliexpress", "shopee", "lazada":
		return shopping
	}
	return none
}

// siteName is the label before the public suffix: `google` of google.co.uk, of m.google.fr, and of google. A
// suffix is taken to be one label, or two of at most three letters each.
func siteName(host string) string {
	labels := strings.Split(host, ".")
	switch n := len(labels); {
	case n == 1:
		return labels[0]
	case n >= 3 && len(labels[n-1]) <= 2 && len(labels[n-2]) <= 3:
		return labels[n-3]
	default:
		return labels[n-2]
	}
}

// hostOf is the host of an address in lower case, without www.; blank if there is none.
func hostOf(address string) string {
	_, rest, ok := strings.Cut(address, "://")
	if !ok {
		return ""
	}
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest = rest[at+1:]
	}
	if colon := strings.LastIndexByte(rest, ':'); colon >= 0 && !strings.HasSuffix(rest, "]") {
		rest = rest[:colon]
	}
	return strings.TrimPrefix(strings.ToLower(rest), "www.")
}

// sameSite is true for a host and one below it, in either direction.
func sameSite(a, b string) bool {
	return a == b || b != "" && (strings.HasSuffix(a, "."+b) || strings.HasSuffix(b, "."+a))
}
