package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/sillage-cdp/sillage/pkg/server/httpserver"
)

// Task is a call that the call centre was asked to make.
type Task struct {
	// ID is the send that asked for it; a task that comes again has the same.
	ID string
	// Email names the person.
	Email string
}

// CallCentre is the bank's call centre: an HTTP server that takes signed tasks.
type CallCentre struct {
	*httpserver.Server
	tasks  chan Task
	verify *standardwebhooks.Webhook
}

// maxTasks bounds the tasks that wait for the player.
const maxTasks = 10_000

// StartCallCentre listens on a free port and takes tasks signed with the secret.
func StartCallCentre(ctx context.Context, signingSecret string, logger *slog.Logger) (*CallCentre, error) {
	verify, err := standardwebhooks.NewWebhook(signingSecret)
	if err != nil {
		return nil, fmt.Errorf("reading the call centre's secret: %w", err)
	}
	c := &CallCentre{tasks: make(chan Task, maxTasks), verify: verify}
	c.Server = httpserver.New(httpserver.Config{Name: "the call centre", Addr: "127.0.0.1:0"}, http.HandlerFunc(c.take), logger)
	if err := c.Start(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// URL is where tasks are to be sent.
func (c *CallCentre) URL() string { return "http://" + c.Addr() + "/call-centre" }

// Tasks are the tasks taken; one that came again has the same id, and so have the events that follow from it.
func (c *CallCentre) Tasks() <-chan Task { return c.tasks }

func (c *CallCentre) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		http.Error(w, "the body cannot be read", http.StatusBadRequest)
		return
	}
	if err := c.verify.Verify(body, r.Header); err != nil {
		http.Error(w, "the signature is not right", http.StatusUnauthorized)
		return
	}
	var payload struct {
		Data struct {
			Email string `json:"email"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &payload); err != nil {
		http.Error(w, "the payload cannot be read", http.StatusBadRequest)
		return
	}
	select {
	case c.tasks <- Task{ID: r.Header.Get(standardwebhooks.HeaderWebhookID), Email: payload.Data.Email}:
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Retry-After", "5")
		http.Error(w, "too many tasks wait", http.StatusTooManyRequests)
	}
}
