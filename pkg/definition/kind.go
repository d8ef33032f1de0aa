package definition

import (
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

// The kinds of definitions, as YAML and record keys spell them.
const (
	KindTenant   = "tenant"
	KindSource   = "source"
	KindSegment  = "segment"
	KindScore    = "score"
	KindJourney  = "journey"
	KindChannel  = "channel"
	KindTemplate = "template"
	KindPlan     = "tracking_plan"
)

// Kinds lists every kind in the order in which they build on each other.
func Kinds() []string {
	return []string{KindTenant, KindSource, KindPlan, KindSegment, KindScore, KindChannel, KindTemplate, KindJourney}
}

// Kind is the kind of def, empty if it has no spec.
func Kind(def *definitionv1.Definition) string {
	switch def.GetSpec().(type) {
	case *definitionv1.Definition_TenantSpec:
		return KindTenant
	case *definitionv1.Definition_Source:
		return KindSource
	case *definitionv1.Definition_Segment:
		return KindSegment
	case *definitionv1.Definition_Score:
		return KindScore
	case *definitionv1.Definition_Journey:
		return KindJourney
	case *definitionv1.Definition_Channel:
		return KindChannel
	case *definitionv1.Definition_Template:
		return KindTemplate
	case *definitionv1.Definition_TrackingPlan:
		return KindPlan
	default:
		return ""
	}
}

// ID names a definition: the tenant, the kind and the name.
type ID struct {
	Tenant, Kind, Name string
}

// IDOf is the ID of def.
func IDOf(def *definitionv1.Definition) ID {
	return ID{Tenant: def.GetTenant(), Kind: Kind(def), Name: def.GetName()}
}

// String is `kind tenant/name`, for messages.
func (id ID) String() string { return id.Kind + " " + id.Tenant + "/" + id.Name }
