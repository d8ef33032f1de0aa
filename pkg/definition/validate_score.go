package definition

import (
	"fmt"
	"math"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

func (c *checker) score(s *definitionv1.Score) {
	c.text("spec.display_name", s.GetDisplayName(), maxEventName)
	if !c.exactlyOne("spec", field{"heat", s.GetHeat() != nil}, field{"rfm", s.GetRfm() != nil}) {
		return
	}
	if s.GetHeat() != nil {
		c.heat("spec.heat", s.GetHeat())
		return
	}
	c.rfm("spec.rfm", s.GetRfm())
}

func (c *checker) heat(path string, h *definitionv1.Heat) {
	c.duration(path+".half_life", h.GetHalfLife(), false)
	if len(h.GetRules()) == 0 {
		c.failf(path+".rules", "is empty (write at least one filter with its points)")
	}
	c.count(path+".rules", len(h.GetRules()), MaxRules)
	for i, r := range h.GetRules() {
		at := fmt.Sprintf("%s.rules[%d]", path, i)
		c.needFilter(at+".filter", r.GetFilter())
		if c.finite(at+".points", r.GetPoints()) && r.GetPoints() == 0 {
			c.failf(at+".points", "is missing or 0: the rule would do nothing")
		}
	}
	c.labels(path+".labels", h.GetLabels())
}

func (c *checker) rfm(path string, r *definitionv1.Rfm) {
	c.needFilter(path+".purchase", r.GetPurchase())
	c.filter(path+".refund", r.GetRefund())
	c.duration(path+".within", r.GetWithin(), true)
	if len(r.GetRecencyDays())+len(r.GetFrequency())+len(r.GetMonetary()) == 0 {
		c.failf(path, "has no thresholds (write at least one of recency_days, frequency, monetary)")
	}
	c.ascending(path+".recency_days", r.GetRecencyDays())
	c.ascending(path+".frequency", r.GetFrequency())
	c.ascending(path+".monetary", r.GetMonetary())
	c.labels(path+".labels", r.GetLabels())
}

// ascending checks thresholds above zero.
func (c *checker) ascending(path string, thresholds []float64) {
	c.count(path, len(thresholds), MaxThresholds)
	for i, threshold := range thresholds {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case !c.finite(at, threshold):
		case threshold <= 0:
			c.failf(at, "%v must be above 0", threshold)
		case i > 0 && threshold <= thresholds[i-1]:
			c.failf(at, "%v is not above the one before it, %v: write them in ascending order", threshold, thresholds[i-1])
		}
	}
}

func (c *checker) labels(path string, labels []*definitionv1.Label) {
	c.count(path, len(labels), MaxThresholds)
	for i, label := range labels {
		at := fmt.Sprintf("%s[%d]", path, i)
		c.slug(at+".name", label.GetName())
		if c.finite(at+".from", label.GetFrom()) && i > 0 && label.GetFrom() <= labels[i-1].GetFrom() {
			c.failf(at+".from", "%v is not above the one before it, %v: write them in ascending order", label.GetFrom(), labels[i-1].GetFrom())
		}
	}
}

func (c *checker) finite(path string, x float64) bool {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		c.failf(path, "is not a finite number")
		return false
	}
	return true
}
