package outcome

import (
	"strings"
)

// Visit is what a request for a pixel or a link shows of who makes it.
type Visit struct {
	Method    string
	UserAgent string
	// Purpose is the `Purpose`, `Sec-Purpose` or `X-Moz` header of a prefetch.
	Purpose string
}

// robots are parts of user agents of scanners and tools, in lower case. A proxy that fetches an image
// when a person opens the mail (Gmail's, Yahoo's) is no robot.
var robots = []string{
	"bot", "crawl", "spider", "scan", "preview", "curl", "wget", "python-requests", "go-http-client", "java/", "okhttp",
	"barracuda", "mimecast", "proofpoint", "safelinks", "headlesschrome", "symantec", "fireeye", "slurp",
}

// Machine reports whether a machine makes the visit: it asks with HEAD, prefetches, names itself, or
// names nothing. What it does is kept and moves nothing.
func Machine(v Visit) bool {
	//nolint:usestdlibvars // the name of a method, not the protocol: this package knows no HTTP
	if v.Method == "HEAD" || v.UserAgent == "" || strings.Contains(strings.ToLower(v.Purpose), "prefetch") {
		return true
	}
	agent := strings.ToLower(v.UserAgent)
	for _, r := range robots {
		if strings.Contains(agent, r) {
			return true
		}
	}
	return false
}
