package stack

import (
	"context"
	"fmt"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/run"
	controlv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/control/v1"
	control "github.com/sillage-cdp/sillage/services/control/app"
	"github.com/sillage-cdp/sillage/services/control/examples"
)

// FirstTenant is the set of examples that a fresh stack begins with.
const FirstTenant = "demo-bank"

// firstDefinitions gives a stack without any definition the tenant `demo`, so that a first event has
// somewhere to go. Once there is one definition of anybody, it does nothing.
type firstDefinitions struct {
	control     *control.App
	definitions definition.Provider
	// engines say why they could not keep what is written now, a full disk for one.
	engines []run.Named
}

func (f *firstDefinitions) Start(ctx context.Context) error {
	if len(f.definitions.Snapshot().All()) > 0 {
		return nil
	}
	for _, e := range f.engines {
		if err := e.Component.Ready(ctx); err != nil {
			return fmt.Errorf("applying the example definitions: %w", err)
		}
	}
	defs, err := examples.Load(FirstTenant)
	if err != nil {
		return fmt.Errorf("reading the example definitions: %w", err)
	}
	if _, err := f.control.Server().ApplyDefinitions(ctx, &controlv1.ApplyDefinitionsRequest{Definitions: defs}); err != nil {
		return fmt.Errorf("applying the example definitions: %w", err)
	}
	return nil
}

func (*firstDefinitions) Stop(context.Context) error  { return nil }
func (*firstDefinitions) Ready(context.Context) error { return nil }
func (*firstDefinitions) Failed() <-chan error        { return nil }
