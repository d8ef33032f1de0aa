package definition

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	// Zones of every machine, also of one without a zone database.
	_ "time/tzdata"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

// Validate says everything that is wrong with def, joined; each error is a *FieldError. refs is the set
// that def would belong to, with def itself and whatever is applied with it: names are looked up there.
// With nil refs def is checked on its own and names are not looked up.
func Validate(def *definitionv1.Definition, refs *Snapshot) error {
	c := &checker{def: def, id: IDOf(def), refs: refs}
	c.head()
	switch spec := def.GetSpec().(type) {
	case *definitionv1.Definition_TenantSpec:
		c.tenant(spec.TenantSpec)
	case *definitionv1.Definition_Source:
		c.source(spec.Source)
	case *definitionv1.Definition_Segment:
		c.segment(spec.Segment)
	case *definitionv1.Definition_Score:
		c.score(spec.Score)
	case *definitionv1.Definition_Journey:
		c.journey(spec.Journey)
	case *definitionv1.Definition_Channel:
		c.channel(spec.Channel)
	case *definitionv1.Definition_Template:
		c.template(spec.Template)
	case *definitionv1.Definition_TrackingPlan:
		c.plan(spec.TrackingPlan)
	}
	c.references()
	return errors.Join(c.errs...)
}

// ValidateAll validates every definition of a snapshot against it.
func ValidateAll(s *Snapshot) error {
	var errs []error
	for _, def := range s.All() {
		errs = append(errs, Validate(def, s))
	}
	return errors.Join(errs...)
}

// checker gathers what is wrong with one definition.
type checker struct {
	def  *definitionv1.Definition
	id   ID
	refs *Snapshot
	errs []error
}

func (c *checker) failf(path, format string, args ...any) {
	c.errs = append(c.errs, &FieldError{Definition: c.id, Path: path, Problem: fmt.Sprintf(format, args...)})
}

// head checks what every definition has.
func (c *checker) head() {
	c.slug("name", c.def.GetName())
	c.slug("tenant", c.def.GetTenant())
	c.text("description", c.def.GetDescription(), maxTextLength)
	if c.id.Kind == "" {
		c.failf("spec", "is missing (write one of %s)", strings.Join(Kinds(), ", "))
	}
	if c.id.Kind == KindTenant && c.id.Tenant != c.id.Name {
		c.failf("tenant", "%q must be the name of the tenant itself, %q", c.id.Tenant, c.id.Name)
	}
	if size := c.def.SizeVT(); size > MaxDefinitionBytes {
		c.failf("spec", "is %d bytes encoded and %d are allowed", size, MaxDefinitionBytes)
	}
}

// references checks that whatever is named exists.
func (c *checker) references() {
	if c.refs == nil {
		return
	}
	for _, reference := range References(c.def) {
		target := reference.Target
		if c.refs.Get(target) != nil {
			continue
		}
		var known []string
		for _, other := range c.refs.List(target.Tenant, target.Kind) {
			known = append(known, other.GetName())
		}
		hint := "define it first or together with this one"
		if near := nearest(target.Name, known); near != "" {
			hint = "did you mean " + near + "?"
		}
		c.failf(reference.Path, "there is no %s %q (%s)", target.Kind, target.Name, hint)
	}
}

var slug = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

// slug checks a name: lower-case letters, digits, `-` and `_`.
func (c *checker) slug(path, text string) {
	switch {
	case text == "":
		c.failf(path, "is missing")
	case !slug.MatchString(text):
		c.failf(path, "%q is not a name (write lower-case letters, digits, - and _, at most %d, beginning with a letter or digit)", text, maxNameLength)
	}
}

// text checks words for people, or from people's data.
func (c *checker) text(path, text string, longest int) {
	switch {
	case !utf8.ValidString(text):
		c.failf(path, "is not UTF-8 text")
	case len(text) > longest:
		c.failf(path, "has %d bytes and %d are allowed", len(text), longest)
	}
}

// duration checks a duration that must be above zero; an empty one is allowed if optional.
func (c *checker) duration(path, text string, optional bool) {
	if text == "" {
		if !optional {
			c.failf(path, "is missing (write a duration, for example 45m)")
		}
		return
	}
	d, err := ParseDuration(text)
	switch {
	case err != nil:
		c.failf(path, "%s", err)
	case d == 0:
		c.failf(path, "must be longer than 0")
	}
}

var timeOfDay = regexp.MustCompile(`^([01][0-9]|2[0-3]):[0-5][0-9]$`)

func (c *checker) timeOfDay(path, text string) {
	if !timeOfDay.MatchString(text) {
		c.failf(path, "%q is not a time of day (write HH:MM, for example 09:30)", text)
	}
}

func (c *checker) timezone(path, name string) {
	if name == "" {
		return
	}
	// `Local` would be the zone of the machine.
	if _, err := time.LoadLocation(name); err != nil || name == "Local" {
		c.failf(path, "%q is not an IANA time zone (write for example Europe/Paris)", name)
	}
}

// count checks that a list has no more entries than are allowed.
func (c *checker) count(path string, have, allowed int) {
	if have > allowed {
		c.failf(path, "has %d entries and %d are allowed", have, allowed)
	}
}

// field is one of the fields of which exactly one is set.
type field struct {
	name string
	set  bool
}

// exactlyOne checks that exactly one of fields is set, and says whether it is so.
func (c *checker) exactlyOne(path string, fields ...field) bool {
	var set, all []string
	for _, f := range fields {
		all = append(all, f.name)
		if f.set {
			set = append(set, f.name)
		}
	}
	switch len(set) {
	case 1:
		return true
	case 0:
		c.failf(path, "is empty (write exactly one of %s)", strings.Join(all, ", "))
	default:
		c.failf(path, "has %s and must have exactly one of them", strings.Join(set, " and "))
	}
	return false
}
