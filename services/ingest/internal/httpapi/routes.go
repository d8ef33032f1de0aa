package httpapi

import (
	"net/http"
	"path"
	"strings"

	"github.com/sillage-cdp/sillage/services/ingest/internal/wire"
)

// route is an endpoint that takes events in.
type route struct {
	// path is the endpoint's own; the telemetry names it by that.
	path string
	call wire.Call
	// queryKey: the write key may stand in the address, since a beacon and a pixel have no headers.
	queryKey bool
	// pixel: the event stands in the address of an image.
	pixel bool
	// server: the caller says that it is a server, so that its address is nobody's.
	server bool
}

// newRoutes is every endpoint that takes events in, by its path without a slash at the end.
func newRoutes() map[string]route {
	routes := make(map[string]route)
	for call := wire.Track; call <= wire.Import; call++ {
		routes["/v1/"+call.String()] = route{call: call}
		if call != wire.Import {
			routes["/v1/"+call.String()[:1]] = route{call: call} // the browser SDK of Segment
		}
		if !call.Many() { // Jitsu
			routes["/api/s/"+call.String()] = route{call: call}
			routes["/api/s/s2s/"+call.String()] = route{call: call, server: true}
		}
	}
	routes["/beacon/v1/batch"] = route{call: wire.Batch, queryKey: true} // RudderStack
	for _, call := range []wire.Call{wire.Track, wire.Page} {
		pixel := route{call: call, queryKey: true, pixel: true}
		routes["/pixel/v1/"+call.String()] = pixel // RudderStack
		routes["/v1/pixel/"+call.String()] = pixel // Segment
	}
	for at, to := range routes {
		to.path = at
		routes[at] = to
	}
	return routes
}

// find is the endpoint of a path. A client whose host was configured with a slash at its end asks for
// `//v1/track`; it is served like any other, since some clients take a redirect for success.
func (h *Handler) find(asked string) (route, bool) {
	found, ok := h.routes[asked]
	if !ok {
		found, ok = h.routes[path.Clean(asked)]
	}
	return found, ok
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	found, ok := h.find(r.URL.Path)
	switch {
	case ok && found.pixel:
		h.pixel(w, r, found)
	case ok:
		h.take(w, r, found)
	default:
		h.pages.ServeHTTP(w, r)
	}
}

// take serves an endpoint that events are posted to.
func (h *Handler) take(w http.ResponseWriter, r *http.Request, to route) {
	if origin := r.Header["Origin"]; origin != nil {
		h.grant(w.Header(), origin)
	}
	switch r.Method {
	case http.MethodPost:
		h.send(w, h.answerTo(r, to))
	case http.MethodOptions:
		preflight(w, r, "POST, OPTIONS")
	default:
		w.Header().Set("Allow", "POST, OPTIONS")
		h.send(w, answer{status: http.StatusMethodNotAllowed, message: "use POST"})
	}
}

// page serves what clients read: their settings, scripts, and whether the service is there.
func (h *Handler) page(w http.ResponseWriter, r *http.Request) {
	serve := h.pageOf(path.Clean(r.URL.Path))
	if serve == nil {
		http.NotFound(w, r)
		return
	}
	if origin := r.Header["Origin"]; origin != nil {
		h.grant(w.Header(), origin)
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		serve(w, r)
	case http.MethodOptions:
		preflight(w, r, "GET, HEAD, OPTIONS")
	default:
		w.Header().Set("Allow", "GET, HEAD, OPTIONS")
		h.send(w, answer{status: http.StatusMethodNotAllowed, message: "use GET"})
	}
}

// pageOf is what serves a path that clients read, nil if there is nothing.
func (h *Handler) pageOf(asked string) http.HandlerFunc {
	switch asked {
	case "/sourceConfig":
		return h.sourceConfig
	case "/health":
		return h.health
	case "/version":
		return version
	}
	if key, ok := between(asked, "/v1/projects/", "/settings"); ok {
		return func(w http.ResponseWriter, r *http.Request) { h.settings(w, r, key) }
	}
	if h.cfg.ScriptsDir == "" {
		return nil
	}
	if key, ok := between(asked, "/analytics.js/v1/", "/analytics.min.js"); ok {
		return func(w http.ResponseWriter, r *http.Request) { h.snippet(w, r, key) }
	}
	if name, ok := between(asked, "/analytics-next/bundles/", ""); ok {
		return func(w http.ResponseWriter, r *http.Request) { h.script(w, r, name) }
	}
	return nil
}

// between is the one segment of a path that stands between two others.
func between(asked, before, after string) (string, bool) {
	rest, ok := strings.CutPrefix(asked, before)
	if !ok {
		return "", false
	}
	middle, ok := strings.CutSuffix(rest, after)
	return middle, ok && middle != "" && !strings.Contains(middle, "/")
}
