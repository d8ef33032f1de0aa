package definition_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/definition"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

// world is a right set of definitions, on top of which the tests put wrong ones.
const world = `
kind: tenant
name: demo
spec: {timezone: Europe/Paris}
---
{kind: tenant, name: other, spec: {}}
---
{kind: source, tenant: other, name: web, spec: {write_keys: [other-key-1]}}
---
{kind: source, tenant: demo, name: app, spec: {write_keys: [app-key-1]}}
---
{kind: source, tenant: demo, name: site, spec: {write_keys: [site-key-1]}}
---
{kind: tracking_plan, tenant: demo, name: app, spec: {source: app, mode: quarantine, events: [{event: Seen, schema: {type: object, required: [id]}}]}}
---
{kind: segment, tenant: demo, name: vip, spec: {condition: {where: traits.vip == true}}}
---
{kind: segment, tenant: demo, name: a, spec: {condition: {all: [{segment: vip}, {not: {segment: b}}]}}}
---
{kind: segment, tenant: demo, name: b, spec: {condition: {performed: {filter: {event: X}}}}}
---
{kind: channel, tenant: demo, name: email, spec: {email: {from: a@b.example}}}
---
{kind: channel, tenant: demo, name: calls, spec: {webhook: {url: "https://calls.example/x"}}}
---
{kind: template, tenant: demo, name: hello, spec: {email: {subject: Hello, text: "Hi {{ traits.first_name }}"}}}
`

func parse(t testing.TB, text string) []*definitionv1.Definition {
	t.Helper()
	defs, err := definition.ParseYAML(strings.NewReader(text), "test.yaml")
	require.NoError(t, err)
	return defs
}

func TestAWorldThatIsRight(t *testing.T) {
	require.NoError(t, definition.ValidateAll(definition.NewSnapshot(parse(t, world)...)))
}

// TestEveryRuleIsKept puts one wrong definition a rule into the world; want is `path: part of the problem`.
func TestEveryRuleIsKept(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, test := range []struct{ kind, spec, want string }{
		// Tenants.
		{"tenant", `{timezone: Europe/Pariss}`, `spec.timezone: "Europe/Pariss" is not an IANA time zone`},
		{"tenant", `{timezone: Local}`, `spec.timezone: "Local" is not`},
		{"tenant", `{identity: {namespaces: [{name: "user id"}]}}`, `spec.identity.namespaces[0].name: "user id" is not a namespace`},
		{"tenant", `{identity: {namespaces: [{name: profile_id}]}}`, `spec.identity.namespaces[0].name: "profile_id" is Sillage's own`},
		{"tenant", `{identity: {namespaces: [{name: email}, {name: email}]}}`, `spec.identity.namespaces[1].name: "email" is there twice`},
		{"tenant", `{identity: {namespaces: [{name: email, limit: 1001}]}}`, `spec.identity.namespaces[0].limit: 1001`},
		{"tenant", `{identity: {refused_values: [""]}}`, `spec.identity.refused_values[0]: is empty`},
		{"tenant", `{pressure: {caps: [{name: Weekly!, max: 3, within: 7d}]}}`, `spec.pressure.caps[0].name: "Weekly!" is not a name`},
		{"tenant", `{pressure: {caps: [{name: w, max: 3, within: 7d}, {name: w, max: 3, within: 8d}]}}`, `spec.pressure.caps[1].name: "w" is there twice`},
		{"tenant", `{pressure: {caps: [{name: w, max: -1, within: 7d}]}}`, `spec.pressure.caps[0].max: -1`},
		{"tenant", `{pressure: {caps: [{name: w, within: 7d}]}}`, `spec.pressure.caps[0].max: must be set (0 means never)`},
		{"tenant", `{pressure: {caps: [{name: w, max: 3}]}}`, `spec.pressure.caps[0].within: is missing`},
		{"tenant", `{pressure: {caps: [{name: w, max: 3, within: 7d, channel: emial}]}}`, `spec.pressure.caps[0].channel: there is no channel "emial" (`},
		{"tenant", `{pressure: {quiet_hours: {from: "22:00", to: "24:00"}}}`, `spec.pressure.quiet_hours.to: "24:00" is not a time of day`},
		{"tenant", `{pressure: {quiet_hours: {from: "9:00", to: "10:00"}}}`, `spec.pressure.quiet_hours.from: "9:00"`},
		{"tenant", `{pressure: {quiet_hours: {from: "09:00", to: "09:00"}}}`, `spec.pressure.quiet_hours.to: is the same as from`},
		// Sources.
		{"source", `{}`, `spec.write_keys: a source needs at least one write key`},
		{"source", `{write_keys: [short]}`, `spec.write_keys[0]: has 5 characters and must have 8 to 128`},
		{"source", `{write_keys: ["with space"]}`, `spec.write_keys[0]: has 10 characters`},
		{"source", `{write_keys: [other-key-1]}`, `spec.write_keys[0]: the key belongs to another source`},
		{"source", `{write_key_sha256: [abc]}`, `spec.write_key_sha256[0]: is not a SHA-256`},
		{"source", `{write_keys: [demo-key], max_event_bytes: -1}`, `spec.max_event_bytes: -1 is not between`},
		{"source", `{write_keys: [demo-key], max_batch_bytes: 100000000}`, `spec.max_batch_bytes: 100000000`},
		{"source", `{write_keys: [demo-key], allowed_origins: ["https://shop.example", shop.example]}`, `spec.allowed_origins[1]: "shop.example" is no origin`},
		{"source", `{write_keys: [demo-key], allowed_origins: ["https://*.shop.example:8443", "https://shop.example/"]}`, `spec.allowed_origins[1]: "https://shop.example/" is no origin`},
		{"source", `{write_keys: [demo-key], history_after: yesterday}`, `spec.history_after: "yesterday" is not a duration`},
		{"tenant", `{rate_limit: {requests_per_second: -1}}`, `spec.rate_limit.requests_per_second: -1 is not between`},
		{"tenant", `{rate_limit: {event_burst: 5}}`, `spec.rate_limit.event_burst: has no rate beside it`},
		{"tenant", `{consent: {required: [marketing, Marketing]}}`, `spec.consent.required[1]: "Marketing" is not a name`},
		{"tenant", `{consent: {required: [marketing, marketing]}}`, `spec.consent.required[1]: "marketing" is there twice`},
		{"source", `{write_keys: [demo-key], rate_limit: {events_per_second: 1e9}}`, `spec.rate_limit.events_per_second: 1e+09 is not between`},
		{"source", `{write_keys: [demo-key], rate_limit: {requests_per_second: 5, request_burst: -1}}`, `spec.rate_limit.request_burst: -1 is not between`},
		{"source", `{write_keys: [demo-key], max_identity_events_per_second: -1}`, `spec.max_identity_events_per_second: -1 is not between`},
		{"source", `{write_keys: [demo-key], max_event_names: 1000000}`, `spec.max_event_names: 1000000 is not between`},
		// Tracking plans.
		{"tracking_plan", `{source: sit}`, `spec.source: there is no source "sit" (did you mean site?)`},
		{"tracking_plan", `{source: app}`, `spec.source: the source "app" has the tracking plan "app" already`},
		{"tracking_plan", `{source: site, events: [{}]}`, `spec.events[0].event: is missing`},
		{"tracking_plan", `{source: site, events: [{event: A}, {event: A}]}`, `spec.events[1].event: "A" is there twice`},
		{"tracking_plan", `{source: site, events: [{event: A, type: alias}]}`, `spec.events[0].type: "alias" is not a type`},
		{"tracking_plan", `{source: site, events: [{event: A, schema: {type: strin}}]}`, `spec.events[0].schema: is no JSON Schema: /type`},
		{"tracking_plan", `{source: site, events: [{event: A, schema: {$ref: "https://a.example"}}]}`, `spec.events[0].schema: refers to https://a.example`},
		{"tracking_plan", `{source: site, events: [{event: ` + long + `}]}`, `spec.events[0].event: has 300 bytes`},
		// Segments.
		{"segment", `{}`, `spec.condition: is missing`},
		{"segment", `{condition: {}}`, `spec.condition: is empty (write exactly one of all, any, not, where`},
		{"segment", `{condition: {where: "true", segment: vip}}`, `spec.condition: has where and segment and must have exactly one`},
		{"segment", `{condition: {all: [{where: "true"}, {}]}}`, `spec.condition.all[1]: is empty`},
		{"segment", `{condition: {where: traits.country = "FR"}}`, `spec.condition.where: the expression is not valid CEL: line 1, column`},
		{"segment", `{condition: {where: scores.heat > 3}}`, `spec.condition.where: scores is not known here (use traits, consents)`},
		{"segment", `{condition: {where: trait.country == "FR"}}`, `spec.condition.where: the expression is not valid CEL`},
		{"segment", `{condition: {where: '"text"'}}`, `spec.condition.where: the expression gives a string and must give true or false`},
		{"segment", `{condition: {performed: {}}}`, `spec.condition.performed.filter: is missing`},
		{"segment", `{condition: {performed: {filter: {type: tracks}}}}`, `spec.condition.performed.filter.type: "tracks" is not a type of event`},
		{"segment", `{condition: {performed: {filter: {where: "properties.x >"}}}}`, `spec.condition.performed.filter.where: the expression is not valid CEL`},
		{"segment", `{condition: {performed: {filter: {event: ` + long + `}}}}`, `spec.condition.performed.filter.event: has 300 bytes`},
		{"segment", `{condition: {performed: {filter: {}, at_least: 1001}}}`, `spec.condition.performed.at_least: 1001 is not between`},
		{"segment", `{condition: {performed: {filter: {}, at_least: 3, at_most: 2}}}`, `spec.condition.performed.at_most: 2 is below at_least, 3`},
		{"segment", `{condition: {performed: {filter: {}, within: "45 min"}}}`, `spec.condition.performed.within: "45 min" is not a duration (write 45m)`},
		{"segment", `{condition: {performed: {filter: {}, within: 0s}}}`, `spec.condition.performed.within: must be longer than 0`},
		{"segment", `{condition: {abandoned: {started: {event: A}, within: 45m}}}`, `spec.condition.abandoned.finished: is missing`},
		{"segment", `{condition: {abandoned: {started: {event: A}, finished: {event: B}}}}`, `spec.condition.abandoned.within: is missing`},
		{"segment", `{condition: {abandoned: {started: {event: A}, finished: {event: B}, within: 45m, lasts: forever}}}`, `spec.condition.abandoned.lasts: "forever"`},
		{"segment", `{condition: {inactive: {}}}`, `spec.condition.inactive.for: is missing`},
		{"segment", `{condition: {segment: vipp}}`, `spec.condition.segment: there is no segment "vipp" (did you mean vip?)`},
		{"segment", `{condition: {not: {segment: x}}}`, `spec.condition: the segment refers to itself: x → x`},
		{"segment", `{condition: ` + strings.Repeat(`{not: `, 17) + `{where: "true"}` + strings.Repeat(`}`, 17) + `}`, `is nested 17 deep and 16 is allowed`},
		{"segment", `{condition: {any: [` + strings.Repeat(`{where: "true"},`, 201) + `]}}`, `spec.condition: has 202 conditions and 200 are allowed`},
		// Scores.
		{"score", `{}`, `spec: is empty (write exactly one of heat, rfm)`},
		{"score", `{heat: {rules: [{filter: {}, points: 1}]}}`, `spec.heat.half_life: is missing`},
		{"score", `{heat: {half_life: 7d}}`, `spec.heat.rules: is empty`},
		{"score", `{heat: {half_life: 7d, rules: [{points: 1}]}}`, `spec.heat.rules[0].filter: is missing`},
		{"score", `{heat: {half_life: 7d, rules: [{filter: {}}]}}`, `spec.heat.rules[0].points: is missing or 0`},
		{"score", `{heat: {half_life: 7d, rules: [{filter: {}, points: 1}], labels: [{from: 2, name: a}, {from: 1, name: b}]}}`, `spec.heat.labels[1].from: 1 is not above the one before it, 2`},
		{"score", `{rfm: {purchase: {event: Order}}}`, `spec.rfm: has no thresholds`},
		{"score", `{rfm: {frequency: [2]}}`, `spec.rfm.purchase: is missing`},
		{"score", `{rfm: {purchase: {event: Order}, recency_days: [90, 30]}}`, `spec.rfm.recency_days[1]: 30 is not above`},
		{"score", `{rfm: {purchase: {event: Order}, monetary: [0]}}`, `spec.rfm.monetary[0]: 0 must be above 0`},
		// Channels.
		{"channel", `{}`, `spec: is empty (write exactly one of email, webhook)`},
		{"channel", `{email: {from: nobody}}`, `spec.email.from: "nobody" is not a sender`},
		{"channel", `{email: {from: a@b.example, smtp: mail.example}}`, `spec.email.smtp: "mail.example" is not host:port`},
		{"channel", `{email: {from: a@b.example, username: me, password_ref: hunter2}}`, `spec.email.password_ref: a secret is given by reference`},
		{"channel", `{email: {from: a@b.example, username: me}}`, `spec.email.username: username and password_ref go together`},
		{"channel", `{email: {from: a@b.example, tls: yes}}`, `spec.email.tls: "yes" is not one of`},
		{"channel", `{webhook: {url: ftp://x.example}}`, `spec.webhook.url: is not an http or https address`},
		{"channel", `{webhook: {url: "https://me:secret@x.example"}}`, `spec.webhook.url: holds a user or password`},
		{"channel", `{webhook: {url: "https://x.example", secret_ref: whsec_abc}}`, `spec.webhook.secret_ref: a secret is given by reference`},
		{"channel", `{webhook: {url: "https://x.example", timeout: 500ms}}`, `spec.webhook.timeout: "500ms" is not a duration`},
		{"channel", `{webhook: {url: "https://x.example"}, rate_per_second: -1}`, `spec.rate_per_second: -1`},
		{"channel", `{webhook: {url: "https://x.example"}, max_attempts: 51}`, `spec.max_attempts: 51`},
		// Templates.
		{"template", `{email: {text: x}}`, `spec.email.subject: is missing`},
		{"template", `{email: {subject: x}}`, `spec.email: has no body`},
		{"template", `{email: {subject: "a\nb", text: x}}`, `spec.email.subject: has a line break`},
		{"template", `{email: {subject: x, html: "line\n{% if traits.x %}\nno end"}}`, `spec.email.html: is not valid Liquid: line`},
		{"template", `{webhook: {data: "{}"}}`, `spec.webhook.type: "" is not a type`},
		// Journeys.
		{"journey", `{steps: [{id: s, exit: {}}]}`, `spec.entry: is missing`},
		{"journey", `{entry: {}, steps: [{id: s, exit: {}}]}`, `spec.entry: is empty (write exactly one of event, segment)`},
		{"journey", `{entry: {segment: {name: vip, on: left}}, steps: [{id: s, exit: {}}]}`, `spec.entry.segment.on: "left" is neither entered nor exited`},
		{"journey", `{entry: {event: {}, where: scores.heat > 1}, steps: [{id: s, exit: {}}]}`, `spec.entry.where: scores is not known here (use traits)`},
		{"journey", `{entry: {event: {}}, reentry: sometimes, steps: [{id: s, exit: {}}]}`, `spec.reentry: "sometimes" is not a duration`},
		{"journey", `{entry: {event: {}}}`, `spec.steps: is empty`},
		{"journey", `{entry: {event: {}}, steps: [{id: s}]}`, `spec.steps[0]: is empty (write exactly one of wait`},
		{"journey", `{entry: {event: {}}, steps: [{id: s, exit: {}, wait: {for: 1d}}]}`, `spec.steps[0]: has wait and exit`},
		{"journey", `{entry: {event: {}}, steps: [{id: s, wait: {for: 1d}}, {id: s, exit: {}}]}`, `spec.steps[1].id: "s" is there twice`},
		{"journey", `{entry: {event: {}}, steps: [{id: s, next: ent, wait: {for: 1d}}, {id: end, exit: {}}]}`, `spec.steps[0].next: there is no step "ent" (did you mean end?)`},
		{"journey", `{entry: {event: {}}, steps: [{id: s, wait: {for: "45 min"}}]}`, `spec.steps[0].wait.for: "45 min" is not a duration (write 45m)`},
		{"journey", `{entry: {event: {}}, steps: [{id: s, wait: {}}]}`, `spec.steps[0].wait: is empty (write exactly one of for, until)`},
		{"journey", `{entry: {event: {}}, steps: [{id: s, wait: {until: 9h}}]}`, `spec.steps[0].wait.until: "9h" is not a time of day`},
		{"journey", `{entry: {event: {}}, steps: [{id: s, wait_for: {event: {event: X}}}]}`, `spec.steps[0].wait_for.within: is missing`},
		{"journey", `{entry: {event: {}}, steps: [{id: s, wait_for: {within: 1d}}]}`, `spec.steps[0].wait_for: is empty`},
		{"journey", `{entry: {event: {}}, steps: [{id: s, wait_for: {segment: {name: nobody}, within: 1d}}]}`, `spec.steps[0].wait_for.segment.name: there is no segment "nobody"`},
		{"journey", `{entry: {event: {}}, steps: [{id: s, branch: {}}]}`, `spec.steps[0].branch: is empty`},
		{"journey", `{entry: {event: {}}, steps: [{id: s, branch: {where: "consents.x"}}]}`, `spec.steps[0].branch.where: consents is not known here`},
		{"journey", `{entry: {event: {}}, steps: [{id: s, split: {arms: [{name: a, weight: 1}]}}]}`, `spec.steps[0].split.arms: has 1 arms and needs at least two`},
		{"journey", `{entry: {event: {}}, steps: [{id: s, split: {arms: [{name: a, weight: 1}, {name: b, weight: 0}]}}]}`, `spec.steps[0].split.arms[1].weight: 0 is not between`},
		{"journey", `{entry: {event: {}}, steps: [{id: s, send: {channel: sms, template: hello}}]}`, `spec.steps[0].send.channel: there is no channel "sms"`},
		{"journey", `{entry: {event: {}}, steps: [{id: s, send: {channel: email, template: helo}}]}`, `spec.steps[0].send.template: there is no template "helo" (did you mean hello?)`},
		{"journey", `{entry: {event: {}}, steps: [{id: s, send: {channel: calls, template: hello}}]}`, `spec.steps[0].send.template: "hello" is not a template for the channel "calls"`},
		{"journey", `{entry: {event: {}}, steps: [{id: a, send: {channel: email, template: hello}}, {id: b, next: a, branch: {segment: vip}}]}`, `spec.steps: people would go round without waiting: a → b → a`},
		{"journey", `{entry: {event: {}}, steps: [{id: a, next: c, wait: {for: 1d}}, {id: b, exit: {}}, {id: c, exit: {}}]}`, `spec.steps[1]: no way leads to step "b"`},
		{"journey", `{entry: {event: {}}, exits: [{reason: goal}], steps: [{id: s, exit: {}}]}`, `spec.exits[0]: is empty`},
		{"journey", `{entry: {event: {}}, exits: [{event: {}}], steps: [{id: s, exit: {}}]}`, `spec.exits[0].reason: is missing`},
	} {
		t.Run(test.kind+" "+test.want, func(t *testing.T) {
			name := "x"
			if test.kind == "tenant" {
				name = "demo"
			}
			def := parse(t, "{kind: "+test.kind+", tenant: demo, name: "+name+", spec: "+test.spec+"}")[0]
			snapshot := definition.NewSnapshot(append(parse(t, world), def)...)
			err := definition.Validate(def, snapshot)
			require.ErrorContains(t, err, test.want)
			require.Len(t, definition.FieldErrors(err), 1, "one rule, one error: %v", err)
			require.Equal(t, definition.IDOf(def), definition.FieldErrors(err)[0].Definition)
		})
	}
}

func TestCyclesOfSegmentsNameTheWay(t *testing.T) {
	defs := parse(t, world+`
---
{kind: segment, tenant: demo, name: b, spec: {condition: {any: [{segment: c}, {segment: vip}]}}}
---
{kind: segment, tenant: demo, name: c, spec: {condition: {not: {segment: a}}}}
`)
	err := definition.ValidateAll(definition.NewSnapshot(defs...))
	require.ErrorContains(t, err, "a → b → c → a")
	require.Len(t, definition.FieldErrors(err), 3, "each of the three is told")
}

func TestALoopThatWaitsIsRight(t *testing.T) {
	def := parse(t, `
kind: journey
tenant: demo
name: weekly
spec:
  entry: {segment: {name: vip}}
  reentry: 0s
  steps:
    - {id: mail, send: {channel: email, template: hello}}
    - {id: pause, wait: {for: 1w}}
    - {id: still, branch: {segment: vip, then: mail, otherwise: end}}
    - {id: end, exit: {reason: over}}
`)[0]
	require.NoError(t, definition.Validate(def, definition.NewSnapshot(append(parse(t, world), def)...)))
}

func TestWithoutASetNamesAreNotLookedUp(t *testing.T) {
	def := parse(t, `{kind: segment, tenant: nowhere, name: x, spec: {condition: {segment: unheard-of}}}`)[0]
	require.NoError(t, definition.Validate(def, nil))
	require.ErrorContains(t, definition.Validate(def, definition.NewSnapshot(def)), `tenant: there is no tenant "nowhere"`)
}

func TestHeads(t *testing.T) {
	spec := &definitionv1.Definition_Segment{Segment: &definitionv1.Segment{Condition: &definitionv1.Condition{Where: "true"}}}
	for _, name := range []string{"", "Upper", "-dash", "with space", "a/b", strings.Repeat("x", 65), "é"} {
		require.Error(t, definition.Validate(&definitionv1.Definition{Tenant: "demo", Name: name, Spec: spec}, nil), name)
		require.Error(t, definition.Validate(&definitionv1.Definition{Tenant: name, Name: "x", Spec: spec}, nil), name)
	}
	require.ErrorContains(t, definition.Validate(&definitionv1.Definition{Tenant: "demo", Name: "x"}, nil), "spec: is missing")
	require.ErrorContains(t, definition.Validate(&definitionv1.Definition{Tenant: "demo", Name: "x",
		Spec: &definitionv1.Definition_TenantSpec{TenantSpec: &definitionv1.Tenant{}}}, nil), "must be the name of the tenant itself")
}

func TestSecretsStayOutOfErrors(t *testing.T) {
	for _, spec := range []string{
		`{kind: channel, tenant: demo, name: x, spec: {webhook: {url: "https://x.example", secret_ref: hunter2hunter2}}}`,
		`{kind: channel, tenant: demo, name: x, spec: {webhook: {url: "https://me:hunter2hunter2@x.example"}}}`,
		`{kind: source, tenant: demo, name: x, spec: {write_keys: ["hunter2hunter2 "]}}`,
	} {
		err := definition.Validate(parse(t, spec)[0], nil)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2")
	}
}
