package app_test

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/services/ingest/app"
)

const (
	firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0"
	crawler = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
)

// What the door adds reaches Kafka: the visitor's browser, what brought them, and what a source wants of the
// address.
func TestEnrichment(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	page := `{"anonymousId":"a","name":"Home","messageId":"%","properties":{"url":"https://shop.example/?utm_source=google&utm_medium=cpc&gclid=1","referrer":"https://www.google.com/"}}`
	require.Equal(t, 200, s.post("/v1/page", webKey, page, "User-Agent", firefox).status)
	require.Equal(t, 200, s.post("/v1/page", privateKey, page, "User-Agent", crawler).status)
	require.Equal(t, 200, s.post("/v1/page", serverKey, page, "User-Agent", crawler).status)
	for _, ev := range s.events() {
		require.Equal(t, "paid_search", ev.GetChannel())
		require.Equal(t, "gclid", ev.GetCampaign().GetClickIdType())
		require.Equal(t, "cpc", ev.GetCampaign().GetMedium())
		switch ev.GetSource() {
		case "web":
			require.Equal(t, "Firefox", ev.GetClient().GetBrowser())
			require.False(t, ev.GetBot())
			require.JSONEq(t, `{"ip":"127.0.0.1"}`, string(ev.GetContext()))
		case "private":
			require.True(t, ev.GetBot(), "kept and marked")
			require.JSONEq(t, `{"ip":"127.0.0.0"}`, string(ev.GetContext()))
		case "server":
			require.False(t, ev.GetBot(), "a server's own user agent says nothing of its user")
		}
	}
	require.Len(t, s.events(), 3)
}

func TestAPlaceThatIsNoFileIsAnErrorOfStart(t *testing.T) {
	cfg := app.NewDefaultConfig()
	cfg.GeoDatabase = "/nowhere/places.mmdb"
	a, err := app.New(cfg, app.Deps{
		Kafka: kafka.Config{Brokers: []string{"127.0.0.1:1"}, Partitions: 4}, Definitions: definitions(),
		Clock: clock.System{}, Logger: slog.New(slog.DiscardHandler), Telemetry: telemetry.Nop(),
	})
	require.NoError(t, err)
	require.ErrorContains(t, a.Start(t.Context()), "geo_database: opening the database of places /nowhere/places.mmdb")
	require.NoError(t, a.Stop(t.Context()))
}
