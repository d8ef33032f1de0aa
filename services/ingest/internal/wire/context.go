package wire

import (
	"github.com/tidwall/gjson"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
)

// layer is one object on a tape: its text and its first member.
type layer struct {
	tape  *tape
	text  string
	first int32
}

// layers are objects that are merged: what the first says wins, member by member and deep, as far as both
// hold objects.
type layers [2]layer

// contextLayers are the item's context and what the batch's root puts under it.
func (d *Decoder) contextLayers(e envelope) layers {
	var l layers
	if d.item.children(e.context) != none {
		l[0] = d.item.layer(e.context)
	}
	root := &d.rootContext
	if d.addressedContext.root != none && l[0].tape != nil {
		if m := d.item.find(l[0].first, "direct"); m != none && d.item.raw(m) == "true" {
			root = &d.addressedContext
		}
	}
	if root.root == none {
		return l
	}
	if l[0].tape == nil {
		l[0] = layer{root, root.text, root.root}
	} else {
		l[1] = layer{root, root.text, root.root}
	}
	return l
}

// find is the member at a path, in the first layer that says anything about it; a nil tape if none does.
func (l layers) find(path ...string) (*tape, int32) {
	for _, layer := range l {
		if layer.tape == nil {
			break
		}
		first := layer.first
		for i, key := range path {
			m := layer.tape.find(first, key)
			if m == none {
				break
			}
			if i == len(path)-1 {
				return layer.tape, m
			}
			if layer.tape.kind(m) != '{' {
				return nil, none // it replaces the whole object below
			}
			first = layer.tape.children(m)
		}
	}
	return nil, none
}

// str is the string or number at a path; blank for anything else.
func (l layers) str(path ...string) string {
	t, m := l.find(path...)
	if t == nil {
		return ""
	}
	return scalarText(t.raw(m))
}

// merge is the object that the layers make together; nil if there is none.
func (d *Decoder) merge(l layers) []byte {
	switch {
	case l[0].tape == nil:
		return nil
	case l[1].tape == nil:
		return bytesOf(l[0].text)
	}
	from := len(d.merged)
	d.merged = appendMerged(d.merged, l[0], l[1])
	return d.merged[from:len(d.merged):len(d.merged)]
}

// appendMerged writes the members of under that over does not replace, then those of over.
func appendMerged(dst []byte, over, under layer) []byte {
	dst = append(dst, '{')
	start := len(dst)
	comma := func() {
		if len(dst) > start {
			dst = append(dst, ',')
		}
	}
	for m := under.first; m != none; m = under.tape.members[m].next {
		if over.tape.find(over.first, under.tape.key(m)) != none {
			continue
		}
		comma()
		dst = appendMember(dst, under.tape, m)
	}
	for m := over.first; m != none; m = over.tape.members[m].next {
		comma()
		below := under.tape.find(under.first, over.tape.key(m))
		switch {
		case below == none || over.tape.kind(m) != '{' || under.tape.kind(below) != '{' || under.tape.children(below) == none:
			dst = appendMember(dst, over.tape, m)
		case over.tape.children(m) == none: // {} over an object changes nothing
			dst = appendMember(dst, under.tape, below)
		default:
			dst = append(append(append(dst, '"'), over.tape.key(m)...), '"', ':')
			dst = appendMerged(dst, over.tape.layer(m), under.tape.layer(below))
		}
	}
	return append(dst, '}')
}

// layer is the object value of a member.
func (t *tape) layer(m int32) layer { return layer{t, t.raw(m), t.children(m)} }

func appendMember(dst []byte, t *tape, m int32) []byte {
	dst = append(append(append(dst, '"'), t.key(m)...), '"', ':')
	return append(dst, t.raw(m)...)
}

// mergeIntegrations puts the item's integrations over the batch's.
func (d *Decoder) mergeIntegrations(e envelope) []byte {
	var l layers
	n := 0
	if d.item.children(e.integration) != none {
		l[n], n = d.item.layer(e.integration), n+1
	}
	if d.rootIntegrations.root != none {
		root := &d.rootIntegrations
		l[n] = layer{root, root.text, root.root}
	}
	return d.merge(l)
}

// fillPage sets the page: for a page call from its properties, else from the context.
func (d *Decoder) fillPage(ev *eventv1.Event, call Call, e envelope, layers layers) {
	p := &d.event.page
	p.Reset()
	if call == Page && e.properties != none {
		readPage(p, &d.item, d.item.children(e.properties))
	}
	for _, l := range layers {
		if l.tape == nil {
			break
		}
		if m := l.tape.find(l.first, "page"); m != none {
			readPage(p, l.tape, l.tape.children(m))
		}
	}
	if p.Url != "" || p.Path != "" || p.Referrer != "" || p.Search != "" || p.Title != "" {
		ev.Page = p
	}
}

// readPage fills the fields of a page that are still blank.
func readPage(p *eventv1.Page, t *tape, first int32) {
	for m := first; m != none; m = t.members[m].next {
		var at *string
		switch t.key(m) {
		case "url":
			at = &p.Url
		case "path":
			at = &p.Path
		case "referrer":
			at = &p.Referrer
		case "search":
			at = &p.Search
		case "title":
			at = &p.Title
		}
		if at != nil && *at == "" {
			*at = t.str(m)
		}
	}
}

func (d *Decoder) fillCampaign(ev *eventv1.Event, layers layers) {
	c := &d.event.campaign
	c.Reset()
	for _, l := range layers {
		if l.tape == nil {
			break
		}
		if m := l.tape.find(l.first, "campaign"); m != none {
			readCampaign(c, l.tape, l.tape.children(m))
		}
	}
	if c.Name != "" || c.Source != "" || c.Medium != "" || c.Term != "" || c.Content != "" {
		ev.Campaign = c
	}
}

// readCampaign fills the fields of a campaign that are still blank.
func readCampaign(c *eventv1.Campaign, t *tape, first int32) {
	for m := first; m != none; m = t.members[m].next {
		var at *string
		switch t.key(m) {
		case "name":
			at = &c.Name
		case "source":
			at = &c.Source
		case "medium":
			at = &c.Medium
		case "term":
			at = &c.Term
		case "content":
			at = &c.Content
		}
		if at != nil && *at == "" {
			*at = t.str(m)
		}
	}
}

// consentOf reads context.consent.categoryPreferences (Segment) and context.consentManagement
// (RudderStack: lists of allowed and denied ids). A purpose that is both allowed and denied is denied.
func consentOf(l layers) *eventv1.Consent {
	var purposes map[string]bool
	set := func(purpose string, given bool) {
		if purposes == nil {
			purposes = make(map[string]bool)
		}
		purposes[purpose] = given
	}
	setAll := func(list string, given bool) {
		gjson.Parse(list).ForEach(func(_, v gjson.Result) bool {
			if v.Type == gjson.String && v.Str != "" {
				set(v.Str, given)
			}
			return true
		})
	}
	if t, m := l.find("consentManagement", "allowedConsentIds"); t != nil && t.kind(m) == '[' {
		setAll(t.raw(m), true)
	}
	if t, m := l.find("consentManagement", "deniedConsentIds"); t != nil && t.kind(m) == '[' {
		setAll(t.raw(m), false)
	}
	for i := len(l) - 1; i >= 0; i-- { // the upper layer last: it wins
		if l[i].tape == nil {
			continue
		}
		readPreferences(l[i], set)
	}
	if purposes == nil {
		return nil
	}
	return &eventv1.Consent{Purposes: purposes}
}

func readPreferences(l layer, set func(string, bool)) {
	consent := l.tape.find(l.first, "consent")
	if consent == none {
		return
	}
	list := l.tape.find(l.tape.children(consent), "categoryPreferences")
	for m := l.tape.children(list); m != none; m = l.tape.members[m].next {
		given := l.tape.raw(m) == "true"
		if key := l.tape.keyText(m); key != "" && (given || l.tape.raw(m) == "false") {
			set(key, given)
		}
	}
}
