// Package ops is the operations port: /livez, /readyz and /metrics. It is open before the rest starts,
// so that an orchestrator sees a process that is alive and not yet ready.
package ops

import (
	"context"
	"net/http"
	"time"
)

// Handler serves /livez (200 while the process runs), /readyz (200 when ready returns nil, else 503 with
// the reasons, a line each) and /metrics.
func Handler(ready func(context.Context) error, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "alive")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		if err := ready(ctx); err != nil {
			answer(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		answer(w, http.StatusOK, "ready")
	})
	mux.Handle("GET /metrics", metrics)
	return mux
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	// A client that went away is no error of ours.
	_, _ = w.Write([]byte(text + "\n"))
}
