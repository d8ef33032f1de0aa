package httpapi

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/sillage-cdp/sillage/services/ingest/internal/wire"
)

// gif is a transparent image of one pixel.
const gif = "GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"

// pixel takes the event in the address of an image. Whatever comes of it, the answer is the image: a page
// or a mail must not show that it is measured badly. What was refused stands in the ledger and the metrics.
func (h *Handler) pixel(w http.ResponseWriter, r *http.Request, to route) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		h.send(w, answer{status: http.StatusMethodNotAllowed, message: "use GET"})
		return
	}
	h.answerTo(r, to)
	header := w.Header()
	header.Set("Content-Type", "image/gif")
	header.Set("Cache-Control", "no-store")
	_, _ = io.WriteString(w, gif) // a client that is gone needs none
}

// readPixel makes the body of a call out of the address.
func (q *request) readPixel() error {
	text, err := pixelBody(q.http.URL.Query(), q.http.Header)
	if err != nil {
		return err
	}
	if !q.reader.hold(&q.body, int64(len(text))) {
		return errBusy
	}
	q.body.bytes = text
	return nil
}

// pixelBody is the call that an address states: Segment's way, as base64 of JSON in `data`, or
// RudderStack's, a parameter for each member, with dots between the names of those that nest
// (`properties.product_id`).
func pixelBody(query url.Values, header http.Header) ([]byte, error) {
	if data := query.Get("data"); data != "" {
		return decodeData(data)
	}
	event := make(map[string]any)
	// In order of their names, so that `a` never depends on where it stands beside `a.b`.
	names := make([]string, 0, len(query))
	for name := range query {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if name == "writeKey" || len(query[name]) == 0 {
			continue
		}
		if strings.Count(name, ".") > wire.MaxEventDepth {
			return nil, &wire.Problem{Code: wire.TooDeep, Detail: "a parameter's name nests too deep"}
		}
		set(event, strings.Split(name, "."), query[name][0])
	}
	if id, ok := event["anonymousId"].(string); ok {
		event["anonymousId"] = strings.Trim(id, `"`)
	}
	setDefault(event, []string{"context", "userAgent"}, header.Get("User-Agent"))
	setDefault(event, []string{"context", "page", "url"}, header.Get("Referer"))
	text, err := json.Marshal(event)
	if err != nil {
		return nil, fmt.Errorf("writing the event of an address: %w", err)
	}
	return text, nil
}

func decodeData(data string) ([]byte, error) {
	// Both alphabets of base64 are about; a + that was not escaped arrives as a space.
	data = strings.NewReplacer("-", "+", "_", "/", " ", "+").Replace(strings.TrimRight(data, "="))
	text, err := base64.RawStdEncoding.DecodeString(data)
	if err != nil {
		return nil, &wire.Problem{Code: wire.BadEncoding, Detail: "data: must be base64 of a JSON object"}
	}
	return text, nil
}

// set writes a value at a path, unless something stands there or in its way.
func set(object map[string]any, path []string, value string) {
	for _, name := range path[:len(path)-1] {
		below, ok := object[name].(map[string]any)
		if !ok {
			if _, taken := object[name]; taken {
				return
			}
			below = make(map[string]any)
			object[name] = below
		}
		object = below
	}
	if last := path[len(path)-1]; object[last] == nil {
		object[last] = value
	}
}

func setDefault(object map[string]any, path []string, value string) {
	if value != "" {
		set(object, path, value)
	}
}
