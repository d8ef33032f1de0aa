package cli

import (
	"context"
	"errors"
	"fmt"
)

type demoCmd struct {
	stackFlags
}

func (c *demoCmd) Run(ctx context.Context, streams Streams) error {
	_ = ctx
	fmt.Fprintln(streams.Out)
	return errors.New("x")
}
