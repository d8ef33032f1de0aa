package render_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/delivery"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/render"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/tracking"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func send() *deliveryv1.Send {
	return &deliveryv1.Send{
		SendId: "s1", Tenant: "demo", ProfileId: "p1", Channel: "email", Journey: "loan",
		Identifiers: []*eventv1.Identifier{{Namespace: "user_id", Value: "u1"}, {Namespace: "email", Value: "ada@example.com"}},
		Traits:      []byte(`{"first_name":"Ada <b>"}`), Trigger: []byte(`{"name":"Loan Application Started","properties":{"amount":12000}}`),
	}
}

func renderer(t *testing.T) *render.Renderer {
	t.Helper()
	signer, err := tracking.NewSigner(bytes.Repeat([]byte{1}, 32))
	require.NoError(t, err)
	return render.New(signer, "https://t.example")
}

func email(subject, html string) *definitionv1.Template {
	return &definitionv1.Template{Email: &definitionv1.EmailTemplate{Subject: subject, Html: html}}
}

func TestAnEmailIsFilledAndTracked(t *testing.T) {
	m, err := renderer(t).Render(send(), email("Your {{ trigger.properties.amount }} € loan", `<p>{{ traits.first_name | escape }}</p><a href="https://bank.example">go</a>`), now)
	require.NoError(t, err)
	require.Equal(t, "s1", m.ID)
	require.Equal(t, "ada@example.com", m.Email.To)
	require.Equal(t, "Your 12000 € loan", m.Email.Subject)
	require.Contains(t, m.Email.HTML, "Ada &lt;b&gt;")
	require.Contains(t, m.Email.HTML, "https://t.example/t/c/")
	require.Contains(t, m.Email.UnsubscribeURL, "https://t.example/t/u/")
}

func TestAWebhookIsFilled(t *testing.T) {
	template := &definitionv1.Template{Webhook: &definitionv1.WebhookTemplate{Type: "call.requested", Data: `{"user": "{{ identifiers.user_id }}", "amount": {{ trigger.properties.amount }}}`}}
	m, err := renderer(t).Render(send(), template, now)
	require.NoError(t, err)
	require.JSONEq(t, `{"type":"call.requested","timestamp":"2026-03-01T12:00:00Z","data":{"user":"u1","amount":12000}}`, string(m.Webhook.Payload))
}

func TestAWebhookWithoutTemplateCarriesWhatIsKnown(t *testing.T) {
	m, err := renderer(t).Render(send(), &definitionv1.Template{Webhook: &definitionv1.WebhookTemplate{Type: "x"}}, now)
	require.NoError(t, err)
	var got struct {
		Data struct {
			Identifiers map[string]string `json:"identifiers"`
		} `json:"data"`
	}
	require.NoError(t, json.Unmarshal(m.Webhook.Payload, &got))
	require.Equal(t, "u1", got.Data.Identifiers["user_id"])
}

func TestWhatCannotBeRenderedIsAPermanentFailure(t *testing.T) {
	unreachable, broken := send(), send()
	unreachable.Identifiers, unreachable.Traits = nil, nil
	broken.Traits = []byte(`{"a":`)
	noJSON := &definitionv1.Template{Webhook: &definitionv1.WebhookTemplate{Data: `{"a": {{ traits.first_name }}}`}}
	for reason, try := range map[string]struct {
		send     *deliveryv1.Send
		template *definitionv1.Template
	}{
		"unreachable": {unreachable, email("s", "h")},
		"bad_send":    {broken, email("s", "h")},
		"template":    {send(), email("{% if %}", "h")},
		"template ":   {send(), noJSON},
		"template  ":  {send(), &definitionv1.Template{}},
	} {
		_, err := renderer(t).Render(try.send, try.template, now)
		f := delivery.AsFailure(err)
		require.Equal(t, delivery.Permanent, f.Kind, reason)
		require.Contains(t, reason, f.Reason)
	}
}

func TestWhatAVariableHoldsStaysText(t *testing.T) {
	evil := send()
	evil.Traits = []byte(`{"name":"<script>x</script>\"","list":["<i>"],"n":1.5}`)
	m, err := renderer(t).Render(evil, email("Hi {{ traits.name }}", `<p>{{ traits.name }} {{- traits.name | escape }} {{ traits.name | raw }} {{ traits.list }} {{traits.n}} {{ traits.none | default: "<b>" }}</p>{% raw %}{{ x }}{% endraw %}`), now)
	require.NoError(t, err)
	const safe = "&lt;script&gt;x&lt;/script&gt;&#34;"
	require.Contains(t, m.Email.HTML, "<p>"+safe+safe+` <script>x</script>" &lt;i&gt; 1.5 &lt;b&gt;</p>{{ x }}`)

	data := `{"name": "{{ traits.name }}", "list": {{ traits.list | json }}, "n": {{ traits.n }}, "a": "{{ traits.name | upcase }}"}`
	m, err = renderer(t).Render(evil, &definitionv1.Template{Webhook: &definitionv1.WebhookTemplate{Type: "x", Data: data}}, now)
	require.NoError(t, err)
	var got struct {
		Data struct {
			Name, A string
			List    []string
			N       float64
		} `json:"data"`
	}
	require.NoError(t, json.Unmarshal(m.Webhook.Payload, &got))
	require.Equal(t, `<script>x</script>"`, got.Data.Name)
	require.Equal(t, `<SCRIPT>X</SCRIPT>"`, got.Data.A)
	require.Equal(t, []string{"<i>"}, got.Data.List)
	require.InDelta(t, 1.5, got.Data.N, 0)
}

func TestARunawayTemplateIsStopped(t *testing.T) {
	_, err := renderer(t).Render(send(), email("s", `{% for i in (1..1000000000) %}0123456789{% endfor %}`), now)
	require.Equal(t, "template", delivery.AsFailure(err).Reason)
	require.ErrorContains(t, err, "longer than")
}
