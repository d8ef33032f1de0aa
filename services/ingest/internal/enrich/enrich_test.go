package enrich

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
)

const (
	chromeLinux   = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
	chromeWindows = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
)

func withAgent(userAgent string) *eventv1.Event {
	context, _ := json.Marshal(map[string]string{"userAgent": userAgent})
	return &eventv1.Event{Context: context}
}

func TestAgents(t *testing.T) {
	cases := map[string]string{
		chromeLinux: "desktop|Chrome|131.0.0.0|Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36 Edg/131.0.2903.51":                                             "desktop|Edge|131.0.2903.51|Windows",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15":                                                         "desktop|Safari|18.1|macOS",
		"Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0":                                                                                                "desktop|Firefox|132.0|Linux",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1":                                       "mobile|Safari|18.1|iOS",
		"Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/130.0.6723.37 Mobile/15E148 Safari/604.1":                                         "tablet|Chrome|130.0.6723.37|iOS",
		"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36":                                                               "mobile|Chrome|131.0.0.0|Android",
		"Mozilla/5.0 (Linux; Android 13; SM-X900) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36":                                                                "tablet|Chrome|131.0.0.0|Android",
		"Mozilla/5.0 (Linux; Android 14; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/26.0 Chrome/122.0.0.0 Mobile Safari/537.36":                                    "mobile|Samsung Browser|26.0|Android",
		"Mozilla/5.0 (Linux; Android 11; CUBOT X50 Build/RP1A) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Mobile Safari/537.36":                                            "mobile|Chrome|120.0.0.0|Android",
		"Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/94.0.4606.128 Safari/537.36 WebAppManager":                                                    "tv|",
		"Mozilla/5.0 (Linux; Android 9; AFTKA) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36":                                                                   "tv|Chrome|120.0.0.0|Android",
		"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)":                                                                                                      "bot|",
		"Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://x)": "bot|",
		"Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)":                                                                                                       "bot|",
		"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)":                                                                        "bot|",
		"Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)":                                                                                                            "bot|",
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/131.0.0.0 Safari/537.36":                                                                 "bot|",
		"facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)":                                                                                                     "bot|",
		"Mozilla/5.0 (Linux; Android 11; moto g power (2022)) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/119.0.0.0 Mobile Safari/537.36 Chrome-Lighthouse":                           "bot|",
		"python-requests/2.32.3": "bot|",
		"curl/8.11.0":            "bot|",
	}
	e := New(nil)
	for text, want := range cases {
		for range 2 { // anew, and from the cache
			ev := withAgent(text)
			e.Apply(ev, Settings{}, "")
			c := ev.GetClient()
			got := c.GetDevice() + "|" + c.GetBrowser() + "|" + c.GetBrowserVersion() + "|" + c.GetOs()
			require.Contains(t, got, want, text)
			require.Equal(t, c.GetDevice() == "bot", ev.GetBot(), text)
		}
	}
}

// A request's own user agent counts where the event states none, and only a browser's.
func TestTheRequestsAgent(t *testing.T) {
	e := New(nil)
	ev := &eventv1.Event{Context: []byte(`{}`)}
	e.Apply(ev, Settings{}, chromeLinux)
	require.Equal(t, "Chrome", ev.GetClient().GetBrowser())

	ev = withAgent(chromeLinux)
	e.Apply(ev, Settings{}, "Mozilla/5.0 (compatible; Googlebot/2.1)")
	require.False(t, ev.GetBot(), "what the event states comes first")

	ev = &eventv1.Event{}
	e.Apply(ev, Settings{}, "Go-http-client/1.1")
	require.False(t, ev.GetBot(), "a server's library is no visitor")
	require.Nil(t, ev.GetClient())
}

func TestClientHints(t *testing.T) {
	e := New(nil)
	ev := &eventv1.Event{Context: []byte(`{"userAgent":"` + chromeWindows + `","userAgentData":{"brands":[{"brand":"Not_A Brand","version":"8"},{"brand":"Chromium","version":"131"},{"brand":"Brave","version":"131"}],"mobile":false,"platform":"Windows","platformVersion":"15.0.0"}}`)}
	e.Apply(ev, Settings{}, "")
	require.True(t, (&eventv1.Client{Device: "desktop", Browser: "Brave", BrowserVersion: "131", Os: "Windows", OsVersion: "11"}).EqualVT(ev.GetClient()), "%v", ev.GetClient())

	plain := withAgent(chromeWindows)
	e.Apply(plain, Settings{}, "")
	require.Equal(t, "Chrome", plain.GetClient().GetBrowser(), "hints of one visitor do not touch what is cached")

	ev = &eventv1.Event{Context: []byte(`{"userAgentData":{"brands":[{"brand":"Google Chrome","version":"131"}],"mobile":true,"platform":"Android"}}`)}
	e.Apply(ev, Settings{}, "")
	require.True(t, (&eventv1.Client{Device: "mobile", Browser: "Chrome", BrowserVersion: "131", Os: "Android"}).EqualVT(ev.GetClient()), "%v", ev.GetClient())
}

func TestAgentsAreBounded(t *testing.T) {
	e := New(nil)
	for i := range 5 * keptAgents {
		e.Apply(withAgent(fmt.Sprintf("Mozilla/5.0 (made up %d) Thing/1", i)), Settings{}, "")
	}
	require.LessOrEqual(t, len(e.agents.now)+len(e.agents.before), 2*keptAgents)
	ev := withAgent("Mozilla/5.0 (X11; Linux x86_64) Invented/7.1")
	e.Apply(ev, Settings{}, "")
	require.Equal(t, Other, ev.GetClient().GetBrowser(), "names of browsers come from a list")
}

func TestChannels(t *testing.T) {
	const here = "https://shop.example/p"
	cases := []struct{ url, referrer, want string }{
		{here, "", "direct"},
		{here, "https://www.shop.example/", ""},
		{here, "https://blog.shop.example/x", ""},
		{here, "https://www.google.com/", "organic_search"},
		{here, "https://www.google.co.uk/search?q=x", "organic_search"},
		{here, "https://duckduckgo.com/", "organic_search"},
		{here, "https://search.brave.com/", "organic_search"},
		{here, "android-app://com.google.android.googlequicksearchbox/", "organic_search"},
		{here, "https://docs.google.com/document/1", "referral"},
		{here, "https://mail.google.com/", "email"},
		{here, "https://l.facebook.com/", "organic_social"},
		{here, "https://t.co/abc", "organic_social"},
		{here, "https://m.youtube.com/watch", "organic_video"},
		{here, "https://www.amazon.de/dp/1", "organic_shopping"},
		{here, "https://partner.example/", "referral"},
		{here, "https://notgoogle.example/", "referral"},
		{here + "?gclid=abc", "https://www.google.com/", "paid_search"},
		{here + "?msclkid=abc", "", "paid_search"},
		{here + "?fbclid=abc", "https://l.facebook.com/", "organic_social"},
		{here + "?ttclid=abc", "", "paid_social"},
		{here + "?dclid=abc", "", "display"},
		{here + "?utm_source=google&utm_medium=cpc", "", "paid_search"},
		{here + "?utm_source=facebook&utm_medium=paid_social&fbclid=x", "", "paid_social"},
		{here + "?utm_source=youtube&utm_medium=cpv", "", "paid_video"},
		{here + "?utm_source=somewhere&utm_medium=cpm", "", "display"},
		{here + "?utm_source=somewhere&utm_medium=cpc", "", "paid_other"},
		{here + "?utm_source=google&utm_medium=cpc&utm_campaign=summer+shop", "", "paid_shopping"},
		{here + "?utm_source=google&utm_medium=cpc&utm_campaign=workshop", "", "paid_search"},
		{here + "?utm_source=google&utm_medium=cpc&utm_campaign=cross-network", "", "cross_network"},
		{here + "?utm_source=spring&utm_medium=Email#top", "https://www.google.com/", "email"},
		{here + "?utm_source=newsletter", "", "email"},
		{here + "?utm_source=x&utm_medium=affiliate", "", "affiliates"},
		{here + "?utm_source=sms", "", "sms"},
		{here + "?utm_source=app&utm_medium=web-push", "", "mobile_push"},
		{here + "?utm_source=tiktok&utm_medium=social", "", "organic_social"},
		{here + "?utm_source=qr&utm_medium=print", "", "unassigned"},
		{here + "?id=7&product_id=8", "", "direct"},
	}
	for _, c := range cases {
		ev := &eventv1.Event{Page: &eventv1.Page{Url: c.url, Referrer: c.referrer}}
		New(nil).Apply(ev, Settings{}, "")
		require.Equal(t, c.want, ev.GetChannel(), "%s from %s", c.url, c.referrer)
	}
	ev := &eventv1.Event{}
	New(nil).Apply(ev, Settings{}, "")
	require.Empty(t, ev.GetChannel(), "an event of a server says nothing of it")
}

func TestCampaign(t *testing.T) {
	ev := &eventv1.Event{Page: &eventv1.Page{Url: "https://shop.example/", Search: "?utm_campaign=Spring%20Sale&utm_source=news&utm_medium=email&utm_term=&utm_content=top+link&gclid=x1"}}
	New(nil).Apply(ev, Settings{}, "")
	want := &eventv1.Campaign{Name: "Spring Sale", Source: "news", Medium: "email", Content: "top link", ClickId: "x1", ClickIdType: "gclid"}
	require.True(t, want.EqualVT(ev.GetCampaign()), "%v", ev.GetCampaign())

	ev = &eventv1.Event{Campaign: &eventv1.Campaign{Source: "stated"}, Page: &eventv1.Page{Search: "utm_source=other&utm_medium=cpc&fbclid=f"}}
	New(nil).Apply(ev, Settings{}, "")
	want = &eventv1.Campaign{Source: "stated", ClickId: "f", ClickIdType: "fbclid"}
	require.True(t, want.EqualVT(ev.GetCampaign()), "two campaigns are not mixed: %v", ev.GetCampaign())
}

// atlas is a locator with one network.
type atlas struct{ asked *int }

func (a atlas) Locate(addr netip.Addr) *eventv1.Geo {
	*a.asked++
	if netip.MustParsePrefix("203.0.113.0/24").Contains(addr) {
		return &eventv1.Geo{Country: "FR", Region: "IDF", City: "Paris"}
	}
	return nil
}

func TestAddress(t *testing.T) {
	asked := 0
	e := New(atlas{&asked})
	cases := []struct {
		keep     Address
		in, want string
		country  string
	}{
		{Keep, `{"a":1,"ip":"203.0.113.77","b":{"ip":"1.2.3.4"}}`, `{"a":1,"ip":"203.0.113.77","b":{"ip":"1.2.3.4"}}`, "FR"},
		{Shorten, `{"a":1,"ip":"203.0.113.77","b":{"ip":"1.2.3.4"}}`, `{"a":1,"ip":"203.0.113.0","b":{"ip":"1.2.3.4"}}`, "FR"},
		{Shorten, `{ "ip" : "::ffff:203.0.113.77" }`, `{ "ip" : "203.0.113.0" }`, "FR"},
		{Shorten, `{"ip":"2001:db8:1234:5678::1%eth0"}`, `{"ip":"2001:db8:1234::"}`, ""},
		{Shorten, `{"ip":"not an address 203.0.113.77"}`, `{"ip":""}`, ""},
		{Shorten, `{"ip":{"v4":"203.0.113.77"}}`, `{"ip":""}`, ""},
		{Drop, `{"ip":"203.0.113.77"}`, `{"ip":""}`, "FR"},
		{Drop, `{}`, `{}`, ""},
	}
	for _, c := range cases {
		in := []byte(c.in)
		ev := &eventv1.Event{Context: in}
		e.Apply(ev, Settings{Address: c.keep}, "")
		require.Equal(t, c.want, string(ev.GetContext()))
		require.Equal(t, c.in, string(in), "the bytes that came in are shared")
		require.Equal(t, c.country, ev.GetGeo().GetCountry())
	}
	require.Equal(t, 2, asked, "each address is looked up once")
}

// Whatever a context holds, it stays a JSON object that differs in nothing but the address.
func FuzzApply(f *testing.F) {
	f.Add(`{"ip":"203.0.113.77","userAgent":"curl/8","userAgentData":{"brands":[{"brand":"Opera"}]}}`, "https://a.example/?utm_source=%zz&gclid=1", "https://google.fr:80/")
	f.Add(`{"ip":[1,{"ip":2}],"userAgent":7,"userAgentData":[]}`, "://?&&=", "android-app://")
	f.Fuzz(func(t *testing.T, context, url, referrer string) {
		var before map[string]any
		if json.Unmarshal([]byte(context), &before) != nil || before == nil || !utf8.ValidString(url+referrer) {
			return
		}
		canonical, err := json.Marshal(before) // as wire hands it out: no key twice
		require.NoError(t, err)
		ev := &eventv1.Event{Context: canonical, Page: &eventv1.Page{Url: url, Referrer: referrer}}
		New(nil).Apply(ev, Settings{Address: Drop}, "")
		var after map[string]any
		require.NoError(t, json.Unmarshal(ev.GetContext(), &after))
		if _, had := before["ip"]; had {
			before["ip"] = ""
		}
		require.Equal(t, before, after)
		_, err = ev.MarshalVT()
		require.NoError(t, err)
	})
}

func BenchmarkApply(b *testing.B) {
	e := New(nil)
	context := []byte(`{"page":{"path":"/product/path","referrer":"https://www.google.com/","search":"?q=monopoly","title":"Monopoly: 3rd Edition","url":"https://www.example.com/product/path?q=monopoly"},"userAgent":"` + chromeLinux + `","locale":"fr-FR","library":{"name":"analytics.js","version":"next-1.84.3"},"timezone":"Europe/Paris","ip":"203.0.113.77"}`)
	page := &eventv1.Page{Url: "https://www.example.com/product/path?q=monopoly", Search: "?q=monopoly", Referrer: "https://www.google.com/"}
	b.ReportAllocs()
	for b.Loop() {
		ev := eventv1.Event{Context: context, Page: page}
		e.Apply(&ev, Settings{}, "")
	}
}

func BenchmarkParseAgent(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		parseAgent(chromeLinux)
	}
}
