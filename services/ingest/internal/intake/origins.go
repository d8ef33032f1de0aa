package intake

import "strings"

// origins are the sites that may send to a source; nil means any.
type origins struct {
	exact map[string]struct{}
	// below holds `https://` and `.shop.example` of `https://*.shop.example`.
	below [][2]string
}

func newOrigins(allowed []string) *origins {
	if len(allowed) == 0 {
		return nil
	}
	o := &origins{exact: make(map[string]struct{}, len(allowed))}
	for _, origin := range allowed {
		if scheme, host, ok := strings.Cut(origin, "://*."); ok {
			o.below = append(o.below, [2]string{scheme + "://", "." + host})
			continue
		}
		o.exact[origin] = struct{}{}
	}
	return o
}

// allow is true for a page that may send. A caller that names no origin is no browser, or a page of the
// same site: a list of sites says nothing about it.
func (o *origins) allow(origin string) bool {
	if o == nil || origin == "" {
		return true
	}
	if _, ok := o.exact[origin]; ok {
		return true
	}
	for _, b := range o.below {
		if strings.HasPrefix(origin, b[0]) && strings.HasSuffix(origin, b[1]) && len(origin) > len(b[0])+len(b[1]) {
			return true
		}
	}
	return false
}
