package enrich

import (
	"strings"

	"github.com/mileusna/useragent"
	"github.com/tidwall/gjson"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
)

// agent is what a user agent says. It is shared and not changed.
type agent struct {
	client *eventv1.Client
	bot    bool
}

// Other stands for a browser that is none of those told apart.
const Other = "Other"

// browserOf gives the browsers that are told apart their name; any other is Other, since in-app browsers
// invent names without end.
func browserOf(name string) string {
	switch name {
	case useragent.Chrome, useragent.Safari, useragent.Firefox, useragent.Edge, useragent.Opera, useragent.OperaMini,
		useragent.OperaTouch, useragent.Vivaldi, useragent.InternetExplorer, useragent.SamsungBrowser, useragent.FacebookApp,
		useragent.InstagramApp, useragent.TiktokApp, "Huawei Browser", "Miui Browser", "Android browser":
		return name
	case useragent.Msie, "Trident":
		return useragent.InternetExplorer
	case "UCBrowser":
		return "UC Browser"
	case "YaBrowser":
		return "Yandex Browser"
	case "DuckDuckGo", "Ddg":
		return "DuckDuckGo"
	case "":
		return ""
	}
	return Other
}

func osOf(name string) string {
	switch name {
	case useragent.Windows, useragent.Android, useragent.MacOS, useragent.IOS, useragent.Linux, useragent.FreeBSD,
		useragent.ChromeOS, useragent.BlackBerry, useragent.WindowsPhone:
		return name
	case useragent.Harmony:
		return "HarmonyOS"
	case "":
		return ""
	}
	return Other
}

func parseAgent(text string) agent {
	if text == "" {
		return agent{client: &eventv1.Client{}}
	}
	lower := strings.ToLower(text)
	ua := useragent.Parse(text)
	if ua.Bot || isBot(lower) {
		return agent{client: &eventv1.Client{Device: "bot"}, bot: true}
	}
	c := &eventv1.Client{
		Browser: browserOf(ua.Name), BrowserVersion: version(ua.Version), Os: osOf(ua.OS), OsVersion: version(ua.OSVersion),
	}
	switch {
	case isTV(lower):
		c.Device = "tv"
	case ua.Tablet, ua.OS == useragent.Android && !strings.Contains(lower, "mobile"):
		c.Device = "tablet"
	case ua.Mobile:
		c.Device = "mobile"
	case ua.Desktop:
		c.Device = "desktop"
	}
	return agent{client: c}
}

// isBot knows programs that act for nobody: those that call themselves a bot, crawler or spider, those that
// drive a browser, those that watch sites or fetch previews of links, and the libraries of programmers.
func isBot(lower string) bool {
	for _, word := range [...]string{
		"crawl", "spider", "slurp", "headless", "phantomjs", "lighthouse", "pagespeed", "gtmetrix", "pingdom", "statuscake",
		"site24x7", "newrelic", "datadog", "facebookexternalhit", "facebookcatalog", "meta-externalagent", "bingpreview",
		"mediapartners-google", "google-read-aloud", "googleother", "google-inspectiontool", "feedfetcher", "apis-google",
		"whatsapp/", "skypeuripreview", "embedly", "chatgpt-user", "claude-user", "perplexity-user", "archive.org",
		"scrapy", "selenium", "puppeteer", "playwright", "python-requests", "python-urllib", "aiohttp", "httpx/", "curl/",
		"wget/", "libwww-perl", "go-http-client", "apache-httpclient", "node-fetch", "axios/", "java/", "guzzle",
	} {
		if strings.Contains(lower, word) {
			return true
		}
	}
	for rest := lower; ; {
		i := strings.Index(rest, "bot")
		if i < 0 {
			return false
		}
		if i < 2 || rest[i-2:i] != "cu" { // Cubot makes telephones
			return true
		}
		rest = rest[i+3:]
	}
}

func isTV(lower string) bool {
	for _, word := range [...]string{"smart-tv", "smarttv", "appletv", "apple tv", "googletv", "hbbtv", "web0s", "bravia", "roku", "aft"} {
		i := strings.Index(lower, word)
		if i < 0 {
			continue
		}
		// Amazon's Fire TV calls itself AFTB, AFTS, …, a word of its own.
		if word != "aft" || i > 0 && lower[i-1] == ' ' {
			return true
		}
	}
	return false
}

// version is a version as it was stated, unless it is none.
func version(text string) string {
	const longest = 32
	if len(text) > longest {
		return ""
	}
	for i := range len(text) {
		if c := text[i]; c != '.' && (c < '0' || c > '9') {
			return ""
		}
	}
	return strings.Clone(text)
}

// withHints lets client hints (context.userAgentData, of the User-Agent Client Hints specification) say what
// the user agent no longer does: the browser's brand, and the system's version.
func withHints(known *eventv1.Client, hints gjson.Result) *eventv1.Client {
	c := known.CloneVT()
	hints.ForEach(func(key, value gjson.Result) bool {
		switch key.Str {
		case "brands":
			brand(c, value)
		case "platform":
			if os := hintedOS(value.Str); os != "" && os != c.Os {
				c.Os, c.OsVersion = os, ""
			}
		case "mobile":
			if value.IsBool() && value.Bool() && (c.Device == "" || c.Device == "desktop") {
				c.Device = "mobile"
			}
		}
		return true
	})
	if v := version(hints.Get("platformVersion").Str); v != "" {
		c.OsVersion = hintedVersion(c.Os, v)
	}
	if v := version(hints.Get("uaFullVersion").Str); v != "" {
		c.BrowserVersion = v
	}
	if c.Device == "" && c.Os != "" && hints.Get("mobile").Type == gjson.False {
		c.Device = "desktop"
	}
	return c
}

// brand takes the brand that is neither the engine nor made up against those who look for a fixed list.
func brand(c *eventv1.Client, brands gjson.Result) {
	brands.ForEach(func(_, entry gjson.Result) bool {
		var name string
		switch entry.Get("brand").Str {
		case "Google Chrome":
			name = useragent.Chrome
		case "Microsoft Edge":
			name = useragent.Edge
		case "Opera":
			name = useragent.Opera
		case "Brave":
			name = "Brave"
		case "Samsung Internet":
			name = useragent.SamsungBrowser
		case "YaBrowser", "Yandex":
			name = "Yandex Browser"
		case "Vivaldi":
			name = useragent.Vivaldi
		case "DuckDuckGo":
			name = "DuckDuckGo"
		default:
			return true
		}
		if name != c.Browser {
			c.Browser, c.BrowserVersion = name, version(entry.Get("version").Str)
		}
		return false
	})
}

func hintedOS(platform string) string {
	switch platform {
	case "Windows", "Android", "macOS", "Linux", "iOS":
		return platform
	case "Chrome OS", "Chromium OS":
		return useragent.ChromeOS
	}
	return ""
}

// hintedVersion is the version as people know it: Windows counts its hints differently
// (https://learn.microsoft.com/microsoft-edge/web-platform/how-to-detect-win11).
func hintedVersion(os, hint string) string {
	if os != useragent.Windows {
		return hint
	}
	major, _, _ := strings.Cut(hint, ".")
	switch {
	case len(major) > 1 && major >= "13":
		return "11"
	case major != "0" && major != "":
		return "10"
	}
	return ""
}
