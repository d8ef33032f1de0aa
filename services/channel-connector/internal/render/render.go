// Package render fills templates. It is pure: a send and its template in, a message out. A template that
// does not render is a permanent failure that names the field and the place.
//
// What a variable holds was written by strangers. In HTML every `{{ … }}` is escaped unless its last
// filter is `raw` or `escape`; in a webhook's data every one is escaped as the inside of a JSON string
// unless its last filter is `raw` or `json`. TestWhatAVariableHoldsStaysText would catch the loss.
package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/osteele/liquid"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/delivery"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/tracking"
)

// maxRendered bounds a rendered body in bytes.
const maxRendered = 1 << 20

// Renderer renders sends.
type Renderer struct {
	engine  *liquid.Engine
	signer  *tracking.Signer
	baseURL string
}

// New returns a renderer whose links lead to baseURL.
func New(signer *tracking.Signer, baseURL string) *Renderer {
	return &Renderer{engine: newEngine(), signer: signer, baseURL: baseURL}
}

// Render makes the message of a send. Errors are *delivery.Failure of kind Permanent.
func (r *Renderer) Render(send *deliveryv1.Send, template *definitionv1.Template, now time.Time) (delivery.Message, error) {
	message := delivery.Message{ID: send.GetSendId()}
	linker := tracking.NewLinker(r.signer, r.baseURL, send)
	vars, err := variables(send, linker)
	if err != nil {
		return message, permanent("bad_send", err)
	}
	switch {
	case template.GetEmail() != nil:
		message.Email, err = r.email(send, template.GetEmail(), vars, linker)
		if message.Email != nil {
			message.Email.Date = now
		}
	case template.GetWebhook() != nil:
		message.Webhook, err = r.webhook(send, template.GetWebhook(), vars, now)
	default:
		err = permanent("template", errors.New("the template has no content"))
	}
	return message, err
}

func permanent(reason string, err error) error {
	return &delivery.Failure{Kind: delivery.Permanent, Reason: reason, Err: err}
}

// variables are what templates see.
func variables(send *deliveryv1.Send, linker tracking.Linker) (liquid.Bindings, error) {
	traits, err := object(send.GetTraits())
	if err != nil {
		return nil, fmt.Errorf("reading the traits: %w", err)
	}
	trigger, err := object(send.GetTrigger())
	if err != nil {
		return nil, fmt.Errorf("reading the trigger: %w", err)
	}
	unsubscribe, err := linker.Unsubscribe()
	if err != nil {
		return nil, err
	}
	identifiers := map[string]any{}
	for _, id := range send.GetIdentifiers() {
		if _, taken := identifiers[id.GetNamespace()]; !taken {
			identifiers[id.GetNamespace()] = id.GetValue()
		}
	}
	return liquid.Bindings{
		"profile": map[string]any{"id": send.GetProfileId()}, "traits": traits, "trigger": trigger, "identifiers": identifiers,
		"send": map[string]any{"id": send.GetSendId()}, "journey": send.GetJourney(), "unsubscribe_url": unsubscribe,
	}, nil
}

// object reads a JSON object, keeping whole numbers whole.
func object(raw []byte) (map[string]any, error) {
	if len(raw) == 0 {
		return map[string]any{}, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var out map[string]any
	if err := decoder.Decode(&out); err != nil {
		return nil, err
	}
	plain, ok := numbers(out).(map[string]any)
	if !ok {
		return map[string]any{}, nil
	}
	return plain, nil
}

func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, err := v.Float64()
		if err != nil {
			return v.String()
		}
		return f
	case map[string]any:
		for k, e := range v {
			v[k] = numbers(e)
		}
		return v
	case []any:
		for i, e := range v {
			v[i] = numbers(e)
		}
		return v
	default:
		return v
	}
}

func (r *Renderer) fill(field, source string, vars liquid.Bindings) (_ string, err error) {
	// The library panics where a writer refuses and where a filter meets what it did not expect: that is
	// the template's failure, not the end of the process.
	defer func() {
		if p := recover(); p != nil {
			err = permanent("template", fmt.Errorf("rendering %s: %v", field, p))
		}
	}()
	var out bounded
	if err := r.engine.ParseAndFRender(&out, []byte(source), vars); err != nil {
		return "", permanent("template", fmt.Errorf("rendering %s: %w", field, err))
	}
	return out.String(), nil
}

// bounded takes up to maxRendered bytes.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxRendered {
		return 0, fmt.Errorf("the result is longer than %d bytes", maxRendered)
	}
	return b.Buffer.Write(p)
}

func (r *Renderer) email(send *deliveryv1.Send, t *definitionv1.EmailTemplate, vars liquid.Bindings, linker tracking.Linker) (*delivery.Email, error) {
	to := Address(send)
	if to == "" {
		return nil, permanent("unreachable", errors.New("the profile has no e-mail address"))
	}
	subject, err := r.fill("subject", t.GetSubject(), vars)
	if err != nil {
		return nil, err
	}
	html, err := r.fill("html", escaped(t.GetHtml(), htmlFilter), vars)
	if err != nil {
		return nil, err
	}
	text, err := r.fill("text", t.GetText(), vars)
	if err != nil {
		return nil, err
	}
	if html != "" {
		if html, err = linker.Rewrite(html); err != nil {
			return nil, permanent("template", err)
		}
	}
	unsubscribe, err := linker.Unsubscribe()
	if err != nil {
		return nil, permanent("template", err)
	}
	return &delivery.Email{To: to, Subject: subject, HTML: html, Text: text, UnsubscribeURL: unsubscribe}, nil
}

// Address is the e-mail address of a send: an identifier, else the trait; empty if there is none.
func Address(send *deliveryv1.Send) string {
	for _, id := range send.GetIdentifiers() {
		if id.GetNamespace() == "email" {
			return id.GetValue()
		}
	}
	var traits struct {
		Email string `json:"email"`
	}
	if err := json.Unmarshal(send.GetTraits(), &traits); err != nil {
		return ""
	}
	return traits.Email
}

// payload is a webhook's body after the Standard Webhooks specification: type, timestamp, data.
type payload struct {
	Type      string          `json:"type"`
	Timestamp string          `json:"timestamp"`
	Data      json.RawMessage `json:"data"`
}

func (r *Renderer) webhook(send *deliveryv1.Send, t *definitionv1.WebhookTemplate, vars liquid.Bindings, now time.Time) (*delivery.Webhook, error) {
	data, err := r.data(t, vars)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(payload{Type: t.GetType(), Timestamp: now.UTC().Format(time.RFC3339), Data: data})
	if err != nil {
		return nil, permanent("template", fmt.Errorf("encoding the payload of send %s: %w", send.GetSendId(), err))
	}
	return &delivery.Webhook{Payload: body}, nil
}

func (r *Renderer) data(t *definitionv1.WebhookTemplate, vars liquid.Bindings) (json.RawMessage, error) {
	if t.GetData() == "" {
		raw, err := json.Marshal(vars)
		if err != nil {
			return nil, permanent("template", fmt.Errorf("encoding the variables: %w", err))
		}
		return raw, nil
	}
	text, err := r.fill("data", escaped(t.GetData(), jsonFilter), vars)
	if err != nil {
		return nil, err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(text)); err != nil {
		return nil, permanent("template", fmt.Errorf("rendering data: the result is no JSON: %w", err))
	}
	return compact.Bytes(), nil
}
