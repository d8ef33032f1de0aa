package httpapi

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"regexp"
	"strings"

	"github.com/sillage-cdp/sillage/pkg/definition"
	sillage "github.com/sillage-cdp/sillage/pkg/version"
	"github.com/sillage-cdp/sillage/services/ingest/internal/intake"
)

// settings is what Segment's browser SDK asks for before it sends anything: where to send. Nothing runs in
// the page besides that, and the SDK reports no figures about itself (its metrics would go to Segment).
func (h *Handler) settings(w http.ResponseWriter, r *http.Request, key string) {
	found := h.intake.SourceOf(key)
	if found == nil || found.Disabled() {
		h.noSource(w, r, found)
		return
	}
	if h.foreign(w, r, found) {
		return
	}
	base := h.publicBase(r)
	protocol, host, _ := strings.Cut(base, "://")
	type object = map[string]any
	h.sendJSON(w, object{
		"integrations": object{"Segment.io": object{
			"apiKey": key, "apiHost": host + "/v1", "protocol": protocol,
			"versionSettings":       object{"version": "4.4.7", "componentTypes": []string{"browser"}},
			"unbundledIntegrations": []string{}, "addBundledMetadata": true, "maybeBundledConfigIds": object{},
		}},
		"plan":                 object{}, // one with events would make the SDK load a script that checks them
		"metrics":              object{"sampleRate": 0},
		"edgeFunction":         object{},
		"middlewareSettings":   object{},
		"enabledMiddleware":    object{},
		"remotePlugins":        []any{},
		"analyticsNextEnabled": true, "legacyVideoPluginsEnabled": false,
	})
}

// sourceConfig is the same for RudderStack's browser SDK. Nothing in it says more than the write key
// does, which every page shows.
func (h *Handler) sourceConfig(w http.ResponseWriter, r *http.Request) {
	key := basicKey(r)
	if key == "" {
		key = strings.TrimSpace(r.URL.Query().Get("writeKey"))
	}
	found := h.intake.SourceOf(key)
	if found == nil {
		h.noSource(w, r, nil)
		return
	}
	if h.foreign(w, r, found) {
		return
	}
	type object = map[string]any
	id := definition.HashWriteKey(key)[:20]
	h.sendJSON(w, object{
		"source": object{
			"id": id, "name": "sillage", "writeKey": key, "enabled": !found.Disabled(), "workspaceId": id,
			"config":       object{"statsCollection": object{"errors": object{"enabled": false}, "metrics": object{"enabled": false}}},
			"destinations": []any{}, "connections": []any{}, "dataplanes": object{},
		},
	})
}

// noSource answers a client that asks with a key that is unknown, or whose source (not nil) is disabled.
func (h *Handler) noSource(w http.ResponseWriter, r *http.Request, disabled *intake.Source) {
	if disabled != nil {
		h.intake.Denied(r.Context(), intake.Disabled)
		h.send(w, denied(intake.Disabled))
		return
	}
	h.intake.Denied(r.Context(), intake.UnknownKey)
	h.send(w, denied(intake.UnknownKey))
}

// foreign answers a page of a site that the source does not name.
func (h *Handler) foreign(w http.ResponseWriter, r *http.Request, s *intake.Source) bool {
	if s.Allows(r.Header.Get("Origin")) {
		return false
	}
	h.intake.Denied(r.Context(), intake.ForeignOrigin)
	refuseOrigin(w.Header())
	h.send(w, denied(intake.ForeignOrigin))
	return true
}

// publicBase is the address at which the client reaches this service, `https://events.shop.example`.
func (h *Handler) publicBase(r *http.Request) string {
	if h.cfg.PublicURL != "" {
		return h.cfg.PublicURL
	}
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if fromTrusted(r, h.cfg.TrustedProxies) {
		if proto := r.Header.Get("X-Forwarded-Proto"); proto == "http" || proto == "https" {
			scheme = proto
		}
		if forwarded, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Host"), ","); forwarded != "" {
			host = strings.TrimSpace(forwarded)
		}
	}
	return scheme + "://" + host
}

// sendJSON answers with a document that depends on who asks.
func (h *Handler) sendJSON(w http.ResponseWriter, document any) {
	text, err := json.Marshal(document)
	if err != nil {
		h.send(w, answer{status: http.StatusInternalServerError, message: "the settings cannot be written"})
		return
	}
	w.Header()["Content-Type"] = h.constant.json
	w.Header().Set("Cache-Control", "private, max-age=60")
	_, _ = w.Write(text) // a client that is gone asks again
}

// snippet is Segment's standalone script, as far as the operator provides it.
func (h *Handler) snippet(w http.ResponseWriter, r *http.Request, key string) {
	if found := h.intake.SourceOf(key); found == nil || found.Disabled() {
		h.noSource(w, r, found)
		return
	}
	h.script(w, r, StandaloneScript)
}

// StandaloneScript is the file that a scripts folder must hold: Segment's SDK for a page without a bundler.
const StandaloneScript = "standalone.js"

// script serves a file of the scripts folder. The folder cannot be left by any name.
func (h *Handler) script(w http.ResponseWriter, r *http.Request, name string) {
	if !h.scriptName.MatchString(name) {
		http.NotFound(w, r)
		return
	}
	file, err := os.OpenInRoot(h.cfg.ScriptsDir, name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer file.Close() //nolint:errcheck // it was read
	info, err := file.Stat()
	if err != nil || info.Mode().Type() != fs.FileMode(0) {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=3600")
	w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
	http.ServeContent(w, r, name, info.ModTime(), file)
}

func newScriptName() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\.js$`)
}

// health is 200 while requests are taken.
func (h *Handler) health(w http.ResponseWriter, r *http.Request) {
	if h.intake.Draining() {
		h.send(w, h.answer(r, intake.Stopping()))
		return
	}
	h.send(w, answer{status: http.StatusOK})
}

// version says which build this is.
func version(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	text, _ := json.Marshal(map[string]string{"version": sillage.Version}) //nolint:errchkjson // a string always encodes
	_, _ = w.Write(text)                                                   // a client that is gone asks again
}
