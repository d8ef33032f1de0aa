package httpapi

import "net/http"

// Headers that are the same in every answer, made once.
type constantHeaders struct {
	json, yes, vary, expose []string
}

func newConstantHeaders() constantHeaders {
	return constantHeaders{
		json:   []string{"application/json"},
		yes:    []string{"true"},
		vary:   []string{"Origin"},
		expose: []string{"Retry-After, X-RateLimit-Reset"},
	}
}

// grant lets a page on any site read the answer. Which sites may send is the source's to say, once it is
// known (request.foreign): the preflight of a browser names no source. No cookie is read here, so that
// allowing credentials gives nothing away; some clients send them along, and a browser then refuses an
// answer without this.
func (h *Handler) grant(header http.Header, origin []string) {
	header["Access-Control-Allow-Origin"] = origin[:1]
	header["Access-Control-Allow-Credentials"] = h.constant.yes
	header["Access-Control-Expose-Headers"] = h.constant.expose
	header["Vary"] = h.constant.vary
}

// refuseOrigin takes back what grant gave.
func refuseOrigin(header http.Header) {
	delete(header, "Access-Control-Allow-Origin")
	delete(header, "Access-Control-Allow-Credentials")
}

// maxRequestedHeaders is the longest list of headers that a preflight gets back.
const maxRequestedHeaders = 1024

// preflight answers a browser that asks whether it may send. What it asks for is granted by name, since a
// wildcard does not cover Authorization.
func preflight(w http.ResponseWriter, r *http.Request, methods string) {
	header := w.Header()
	header["Access-Control-Allow-Methods"] = []string{methods}
	header["Access-Control-Max-Age"] = []string{"900"}
	header["Vary"] = []string{"Origin, Access-Control-Request-Headers"}
	allowed := r.Header.Get("Access-Control-Request-Headers")
	if allowed == "" || len(allowed) > maxRequestedHeaders {
		allowed = "Authorization, Content-Type, Content-Encoding, AnonymousId, SentAt, X-Write-Key, X-Retry-Count, X-Sillage-Verbose"
	}
	header["Access-Control-Allow-Headers"] = []string{allowed}
	w.WriteHeader(http.StatusNoContent)
}
