package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// remote is the gRPC endpoint that a command talks to.
type remote struct {
	GRPC string `help:"Address of Sillage's gRPC port." default:"127.0.0.1:9090" env:"SILLAGE_GRPC__ADDR" name:"grpc"`
}

// callTimeout bounds one call of the command line.
const callTimeout = 30 * time.Second

// call dials, runs fn and turns its error into one that says what to do.
func (r remote) call(ctx context.Context, fn func(context.Context, *grpc.ClientConn) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	conn, err := grpc.NewClient(r.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("connecting to %s: %w", r.GRPC, err)
	}
	return errors.Join(r.explain(fn(ctx, conn)), conn.Close())
}

// explain turns a gRPC error into the lines that a user can act on.
func (r remote) explain(err error) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	if s.Code() == codes.Unavailable {
		return fmt.Errorf("nothing answers at %s: start `sillage up`, or name the address with --grpc (%s)", r.GRPC, s.Message())
	}
	var lines []string
	for _, detail := range s.Details() {
		bad, ok := detail.(*errdetails.BadRequest)
		if !ok {
			continue
		}
		for _, v := range bad.GetFieldViolations() {
			// A server that lists its violations in the message as well has said them already.
			if line := v.GetField() + ": " + v.GetDescription(); !strings.Contains(s.Message(), line) {
				lines = append(lines, "  "+line)
			}
		}
	}
	if len(lines) == 0 {
		return errors.New(s.Message())
	}
	return fmt.Errorf("%s\n%s", s.Message(), strings.Join(lines, "\n"))
}

// drain closes a body after reading what little may be left of it, so that the connection is reused.
func drain(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, 4<<10)
	_ = body.Close()
}
