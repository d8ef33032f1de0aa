// Package catalog decides what an application or a deletion of definitions does, and nothing else: it
// takes the definitions as they are, what is wanted and the time, and returns what to write, or
// everything that is wrong. It knows neither Kafka nor gRPC nor a clock.
//
// What it promises, and catalog_test.go holds it to: all or nothing; a version goes up by one when the
// content changes and stays when it does not; write keys leave it only as hashes; nothing is deleted or
// changed in a way that breaks what refers to it.
package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sillage-cdp/sillage/pkg/definition"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

// Limits bound the catalogue.
type Limits struct {
	// PerRequest is how many definitions one request may apply.
	PerRequest int
	// PerTenant is how many definitions a tenant may have.
	PerTenant int
}

// Change is what became of a definition.
type Change int

// What becomes of a definition.
const (
	Created Change = iota + 1
	Updated
	Unchanged
)

// Applied is the outcome for one definition of a request.
type Applied struct {
	// Definition is as it is stored now, with its version.
	Definition *definitionv1.Definition
	Change     Change
}

// ErrTooMany tells that a limit would be exceeded.
var ErrTooMany = errors.New("too many definitions")

// ErrNotFound tells that there is no such definition.
var ErrNotFound = errors.New("there is no such definition")

// InUseError tells that a definition cannot be deleted because others refer to it.
type InUseError struct {
	// ID is the definition that is in use.
	ID definition.ID
	// By are those that refer to it, sorted.
	By []definition.ID
}

// Error names the first few of those that refer to it.
func (e *InUseError) Error() string {
	const shown = 5
	var by []string
	for _, id := range e.By[:min(shown, len(e.By))] {
		by = append(by, id.String())
	}
	more := ""
	if n := len(e.By) - shown; n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("%s is in use by %s%s: delete or change those first", e.ID, strings.Join(by, ", "), more)
}

// Apply decides what applying wanted to current does, at time now. The outcome is in the order of
// wanted, which is left as it is. Errors of validation are *definition.FieldError, joined.
func Apply(current *definition.Snapshot, wanted []*definitionv1.Definition, limits Limits, now time.Time) ([]Applied, error) {
	if len(wanted) > limits.PerRequest {
		return nil, fmt.Errorf("%w: the request has %d and %d are allowed: send several requests", ErrTooMany, len(wanted), limits.PerRequest)
	}
	if err := refuseRepeats(wanted); err != nil {
		return nil, err
	}
	candidate := definition.NewSnapshot(append(slices.Clone(current.All()), wanted...)...)
	if err := validate(current, candidate, wanted); err != nil {
		return nil, err
	}
	if err := checkCounts(candidate, wanted, limits.PerTenant); err != nil {
		return nil, err
	}
	applied := make([]Applied, 0, len(wanted))
	for _, def := range wanted {
		applied = append(applied, applyOne(current.Get(definition.IDOf(def)), def, now))
	}
	return applied, nil
}

// applyOne gives a definition its version.
func applyOne(have, wanted *definitionv1.Definition, now time.Time) Applied {
	next := wanted.CloneVT()
	hashKeys(next)
	if have == nil {
		next.Version, next.AppliedAtMs = 1, now.UnixMilli()
		return Applied{Definition: next, Change: Created}
	}
	next.Version, next.AppliedAtMs = have.GetVersion(), have.GetAppliedAtMs()
	if next.EqualVT(have) {
		return Applied{Definition: have, Change: Unchanged}
	}
	next.Version, next.AppliedAtMs = have.GetVersion()+1, now.UnixMilli()
	return Applied{Definition: next, Change: Updated}
}

// hashKeys puts the hash of every write key in its place: sorted, each once.
func hashKeys(def *definitionv1.Definition) {
	source := def.GetSource()
	if source == nil {
		return
	}
	for _, key := range source.GetWriteKeys() {
		source.WriteKeySha256 = append(source.WriteKeySha256, definition.HashWriteKey(key))
	}
	slices.Sort(source.WriteKeySha256)
	source.WriteKeySha256 = slices.Compact(source.WriteKeySha256)
	source.WriteKeys = nil
}

// refuseRepeats checks that no definition is in the request twice.
func refuseRepeats(wanted []*definitionv1.Definition) error {
	seen := make(map[definition.ID]bool, len(wanted))
	var errs []error
	for _, def := range wanted {
		id := definition.IDOf(def)
		if seen[id] && id.Kind != "" {
			errs = append(errs, &definition.FieldError{Definition: id, Path: "name", Problem: "is in the request twice"})
		}
		seen[id] = true
	}
	return errors.Join(errs...)
}

// validate checks what is wanted, and what refers to it and was right before: a channel that turns from
// e-mail into a webhook breaks the journeys that send e-mails on it.
func validate(current, candidate *definition.Snapshot, wanted []*definitionv1.Definition) error {
	var errs []error
	changed := make(map[definition.ID]bool, len(wanted))
	for _, def := range wanted {
		changed[definition.IDOf(def)] = true
		errs = append(errs, definition.Validate(def, candidate))
	}
	for _, def := range candidate.All() {
		if !changed[definition.IDOf(def)] && refersTo(def, changed) {
			errs = append(errs, broken(def, current, candidate)...)
		}
	}
	return errors.Join(errs...)
}

// broken is what the change would break in a definition that was right before.
func broken(def *definitionv1.Definition, current, candidate *definition.Snapshot) []error {
	problems := definition.FieldErrors(definition.Validate(def, candidate))
	if len(problems) == 0 || definition.Validate(def, current) != nil {
		return nil
	}
	errs := make([]error, 0, len(problems))
	for _, p := range problems {
		p.Problem = "the change would break this one: " + p.Problem
		errs = append(errs, p)
	}
	return errs
}

// refersTo says whether def names one of targets, its tenant apart.
func refersTo(def *definitionv1.Definition, targets map[definition.ID]bool) bool {
	return slices.ContainsFunc(definition.References(def), func(reference definition.Reference) bool {
		return reference.Target.Kind != definition.KindTenant && targets[reference.Target]
	})
}

func checkCounts(candidate *definition.Snapshot, wanted []*definitionv1.Definition, perTenant int) error {
	checked := map[string]bool{}
	for _, def := range wanted {
		tenant := def.GetTenant()
		if checked[tenant] {
			continue
		}
		checked[tenant] = true
		count := 0
		for _, kind := range definition.Kinds() {
			count += len(candidate.List(tenant, kind))
		}
		if count > perTenant {
			return fmt.Errorf("%w: tenant %s would have %d and %d are allowed", ErrTooMany, tenant, count, perTenant)
		}
	}
	return nil
}

// Delete decides whether a definition may be deleted: it must exist and nothing may refer to it. A
// tenant can go when everything of it is gone.
func Delete(current *definition.Snapshot, id definition.ID) error {
	if current.Get(id) == nil {
		return fmt.Errorf("%s: %w", id, ErrNotFound)
	}
	var by []definition.ID
	for _, def := range current.All() {
		refers := func(reference definition.Reference) bool { return reference.Target == id }
		if slices.ContainsFunc(definition.References(def), refers) {
			by = append(by, definition.IDOf(def))
		}
	}
	if len(by) > 0 {
		return &InUseError{ID: id, By: by}
	}
	return nil
}
