package httpapi

import (
	"encoding/json"
	"io"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/sillage-cdp/sillage/services/ingest/internal/intake"
	"github.com/sillage-cdp/sillage/services/ingest/internal/wire"
)

// answer is what a client gets.
type answer struct {
	status  int
	message string
	code    wire.Code
	// retryAfter is in seconds; 0 says nothing.
	retryAfter int
	// reset is X-RateLimit-Reset in seconds; 0 says nothing.
	reset int
	// close ends the connection: the rest of the body is not worth reading.
	close bool
	// foreign withholds the answer from the page that asked.
	foreign bool
	// outcome is set for a client that asked for it.
	outcome *wire.Outcome
}

func unauthorized(message string) answer {
	return answer{status: http.StatusUnauthorized, message: message}
}

// answer turns a result into what HTTP clients know.
func (h *Handler) answer(r *http.Request, of intake.Result) answer {
	switch of.Kind {
	case intake.Taken:
		a := answer{status: http.StatusOK}
		if verbose(r.Header) {
			a.outcome = of.Outcome
		}
		return a
	case intake.Refused:
		a := answer{status: http.StatusBadRequest, message: of.Problem.Detail, code: of.Problem.Code}
		if a.code == wire.BodyTooLarge {
			a.close = true
			if h.cfg.TooLargeStatus413 {
				a.status = http.StatusRequestEntityTooLarge
			}
		}
		return a
	case intake.Denied:
		return denied(of.Denial)
	case intake.TooFast:
		// Clients read whole seconds, at most 300 of them.
		seconds := min(max(wholeSeconds(of.Wait), 1), 300)
		return answer{status: http.StatusTooManyRequests, message: "too much is sent at once; send it again later", retryAfter: seconds, reset: seconds}
	case bodyLate:
		return answer{status: http.StatusRequestTimeout, message: "the body did not arrive in time", close: true}
	case bodyCutOff:
		// The client went away in the middle; nobody reads this.
		return answer{status: http.StatusBadRequest, message: "the body was cut off", close: true}
	default:
		return answer{status: http.StatusServiceUnavailable, message: of.Problem.Detail, retryAfter: wholeSeconds(of.Wait)}
	}
}

func wholeSeconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

func denied(why intake.Denial) answer {
	switch why {
	case intake.Disabled: // RudderStack's answer, too: clients do not try again
		return answer{status: http.StatusNotFound, message: "the source is disabled"}
	case intake.ForeignOrigin: // a page on a site that the source does not name
		return answer{status: http.StatusForbidden, message: "the source takes nothing from pages of this origin", foreign: true}
	case intake.TwoKeys:
		return unauthorized("the request names different write keys: send one")
	case intake.NoKey:
		return unauthorized("no write key: send it as the user name of Basic authorization, or as writeKey in the body")
	default:
		return unauthorized("invalid write key")
	}
}

// verbose is true for a client that wants to know the fate of every event.
func verbose(header http.Header) bool {
	return header.Get("X-Sillage-Verbose") == "1" || header.Get("X-CDP-Verbose") == "1"
}

// Bodies of answers, as clients of Segment know them; the last two are for clients that ask for more.
type (
	failure struct {
		Success bool      `json:"success"`
		Message string    `json:"message"`
		Code    wire.Code `json:"code,omitempty"`
	}
	success struct {
		Success  bool       `json:"success"`
		Accepted int        `json:"accepted"`
		Rejected []rejected `json:"rejected"`
	}
	rejected struct {
		Index     int       `json:"index"`
		MessageID string    `json:"messageId,omitempty"`
		Code      wire.Code `json:"code"`
		Message   string    `json:"message"`
	}
)

// send writes an answer.
func (h *Handler) send(w http.ResponseWriter, a answer) {
	header := w.Header()
	header["Content-Type"] = h.constant.json
	if a.retryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(a.retryAfter))
	}
	if a.reset > 0 {
		header["X-RateLimit-Reset"] = []string{strconv.Itoa(a.reset)}
	}
	if a.close {
		header.Set("Connection", "close")
	}
	if a.foreign {
		refuseOrigin(header)
	}
	w.WriteHeader(a.status)
	// A client that is gone by now gets no answer; it will send again.
	if a.status == http.StatusOK && a.outcome == nil {
		_, _ = io.WriteString(w, `{"success":true}`)
		return
	}
	_, _ = w.Write(a.body())
}

// body is the answer in JSON, unless it is the plain yes.
func (a answer) body() []byte {
	if a.outcome == nil {
		out, _ := json.Marshal(failure{Message: a.message, Code: a.code}) //nolint:errchkjson // strings always encode
		return out
	}
	list := make([]rejected, 0, len(a.outcome.Rejections))
	for _, r := range a.outcome.Rejections {
		list = append(list, rejected{Index: r.Index, MessageID: r.MessageID, Code: r.Code, Message: r.Detail})
	}
	out, _ := json.Marshal(success{Success: true, Accepted: a.outcome.Accepted, Rejected: list}) //nolint:errchkjson // strings and numbers always encode
	return out
}
