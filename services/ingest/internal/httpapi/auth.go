package httpapi

import (
	"encoding/base64"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// basicKey is the write key in an Authorization header: the user name of Basic, with or without the colon
// after it, padded or not. Blank if there is none.
func basicKey(r *http.Request) string {
	scheme, value, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Basic") {
		return ""
	}
	decoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(value), "="))
	if err != nil {
		return ""
	}
	key, _, _ := strings.Cut(string(decoded), ":")
	return strings.TrimSpace(key)
}

// cors answers a browser on any site: write keys are public and no cookie is read.
func cors(header http.Header, r *http.Request) {
	header["Access-Control-Allow-Origin"] = []string{"*"}
	header["Access-Control-Expose-Headers"] = []string{"Retry-After, X-RateLimit-Reset"}
	if r.Method != http.MethodOptions {
		return
	}
	header["Access-Control-Allow-Methods"] = []string{"POST, OPTIONS"}
	header["Access-Control-Max-Age"] = []string{"900"}
	header["Vary"] = []string{"Access-Control-Request-Headers"}
	// A wildcard does not cover Authorization, so what the browser asks for is granted by name.
	allowed := r.Header.Get("Access-Control-Request-Headers")
	if allowed == "" || len(allowed) > maxRequestedHeaders {
		allowed = "Authorization, Content-Type, Content-Encoding, AnonymousId, SentAt, X-Write-Key, X-Retry-Count, X-Sillage-Verbose"
	}
	header["Access-Control-Allow-Headers"] = []string{allowed}
}

// maxRequestedHeaders is the longest list of headers that a preflight gets back.
const maxRequestedHeaders = 1024

// clientIP is the caller's address: the peer's, or behind trusted proxies the last address that none of
// them vouches for. Blank if it cannot be told.
func clientIP(r *http.Request, trusted []netip.Prefix) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	addr := peer.Addr().Unmap()
	if len(trusted) == 0 || !contains(trusted, addr) {
		return addr.WithZone("").String()
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, claimed := range slices.Backward(hops) {
		hop, err := netip.ParseAddr(strings.TrimSpace(claimed))
		if err != nil {
			break
		}
		if addr = hop.Unmap(); !contains(trusted, addr) {
			break
		}
	}
	return addr.WithZone("").String()
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
