package definition

import (
	"net"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/osteele/liquid"

	"github.com/sillage-cdp/sillage/pkg/secret"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

func (c *checker) channel(ch *definitionv1.Channel) {
	if _, known := definitionv1.Ambiguity_name[int32(ch.GetAmbiguous())]; !known {
		c.failf("spec.ambiguous", "%d is not known (write retry or give_up)", ch.GetAmbiguous())
	}
	if rate := ch.GetRatePerSecond(); c.finite("spec.rate_per_second", rate) && (rate < 0 || rate > maxRate) {
		c.failf("spec.rate_per_second", "%v is not between 0 (no limit) and %d", rate, maxRate)
	}
	if n := ch.GetMaxAttempts(); n < 0 || n > maxAttempts {
		c.failf("spec.max_attempts", "%d is not between 1 and %d (0 or nothing means 8)", n, maxAttempts)
	}
	if !c.exactlyOne("spec", field{"email", ch.GetEmail() != nil}, field{"webhook", ch.GetWebhook() != nil}) {
		return
	}
	if ch.GetEmail() != nil {
		c.emailChannel("spec.email", ch.GetEmail())
		return
	}
	c.webhookChannel("spec.webhook", ch.GetWebhook())
}

func (c *checker) emailChannel(path string, e *definitionv1.EmailChannel) {
	if e.GetSmtp() != "" && !validHostPort(e.GetSmtp()) {
		c.failf(path+".smtp", "%q is not host:port (write for example smtp.example.com:587)", e.GetSmtp())
	}
	if _, err := mail.ParseAddress(e.GetFrom()); err != nil {
		c.failf(path+".from", "%q is not a sender (write for example Demo Bank <hello@bank.example>)", e.GetFrom())
	}
	c.secret(path+".password_ref", e.GetPasswordRef())
	if (e.GetUsername() == "") != (e.GetPasswordRef() == "") {
		c.failf(path+".username", "username and password_ref go together: write both or neither")
	}
	if allowed := []string{"", "starttls", "tls", "required", "none"}; !slices.Contains(allowed, e.GetTls()) {
		c.failf(path+".tls", "%q is not one of starttls, tls, required, none", e.GetTls())
	}
}

func validHostPort(text string) bool {
	host, port, err := net.SplitHostPort(text)
	if err != nil || host == "" {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

func (c *checker) webhookChannel(path string, w *definitionv1.WebhookChannel) {
	u, err := url.Parse(w.GetUrl())
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		// The address may hold what it should not: it stays out of the message.
		c.failf(path+".url", "is not an http or https address (write for example https://partner.example/hook)")
	case u.User != nil:
		c.failf(path+".url", "holds a user or password: use secret_ref")
	}
	c.secret(path+".secret_ref", w.GetSecretRef())
	c.duration(path+".timeout", w.GetTimeout(), true)
}

// secret checks that a secret is given by reference; what was written instead stays out of the message.
func (c *checker) secret(path, ref string) {
	if err := secret.Check(ref); err != nil {
		c.failf(path, "%s", err)
	}
}

var webhookType = regexp.MustCompile(`^[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*$`)

func (c *checker) template(t *definitionv1.Template) {
	if !c.exactlyOne("spec", field{"email", t.GetEmail() != nil}, field{"webhook", t.GetWebhook() != nil}) {
		return
	}
	if webhook := t.GetWebhook(); webhook != nil {
		if kind := webhook.GetType(); len(kind) > maxNameLength || !webhookType.MatchString(kind) {
			c.failf("spec.webhook.type", "%q is not a type (write for example call.requested)", kind)
		}
		c.liquid("spec.webhook.data", webhook.GetData())
		return
	}
	email := t.GetEmail()
	if strings.TrimSpace(email.GetSubject()) == "" {
		c.failf("spec.email.subject", "is missing")
	}
	if strings.ContainsAny(email.GetSubject(), "\r\n") {
		c.failf("spec.email.subject", "has a line break and must be one line")
	}
	if email.GetHtml() == "" && email.GetText() == "" {
		c.failf("spec.email", "has no body (write html, text or both)")
	}
	c.liquid("spec.email.subject", email.GetSubject())
	c.liquid("spec.email.html", email.GetHtml())
	c.liquid("spec.email.text", email.GetText())
}

// liquid checks the syntax of a template.
func (c *checker) liquid(path, text string) {
	c.text(path, text, MaxTemplateBytes)
	if len(text) > MaxTemplateBytes {
		return
	}
	if _, err := liquid.NewEngine().ParseTemplateLocation([]byte(text), "template", 1); err != nil {
		cause := error(err)
		if err.Cause() != nil {
			cause = err.Cause()
		}
		c.failf(path, "is not valid Liquid: line %d: %s", err.LineNumber(), cause)
	}
}
