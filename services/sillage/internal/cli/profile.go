package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"

	decisionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/decision/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
)

// profileCmd is `sillage profile`.
type profileCmd struct {
	Get profileGetCmd `cmd:"" help:"Print a profile as JSON."`
}

// profileGetCmd is `sillage profile get`.
type profileGetCmd struct {
	remote
	Tenant string `required:"" help:"Tenant of the profile."`
	ID     string `required:"" name:"id" help:"Identifier as namespace:value, for example user_id:123, email:a@b.example or profile_id:…"`
}

// Run prints identifiers, traits, memberships, scores and journeys of one profile.
func (c *profileGetCmd) Run(ctx context.Context, streams Streams) error {
	namespace, value, ok := strings.Cut(c.ID, ":")
	if !ok || namespace == "" || value == "" {
		return fmt.Errorf("%q is not an identifier: write namespace:value, for example user_id:123", c.ID)
	}
	return c.call(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		resp, err := decisionv1.NewProfileServiceClient(conn).GetProfile(ctx, &decisionv1.GetProfileRequest{
			Tenant: c.Tenant, Identifier: &eventv1.Identifier{Namespace: namespace, Value: value},
		})
		if err != nil {
			return err
		}
		encoder := json.NewEncoder(streams.Out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(newProfileView(resp))
	})
}

// profileView is a profile as the command line shows it.
type profileView struct {
	Tenant      string           `json:"tenant"`
	ProfileID   string           `json:"profile_id"`
	Identifiers []string         `json:"identifiers"`
	Traits      json.RawMessage  `json:"traits"`
	Consents    map[string]bool  `json:"consents"`
	Memberships []membershipView `json:"memberships"`
	Scores      []scoreView      `json:"scores"`
	Journeys    []journeyView    `json:"journeys"`
	FirstSeen   time.Time        `json:"first_seen"`
	LastSeen    time.Time        `json:"last_seen"`
	Events      int64            `json:"events"`
	Absorbed    []string         `json:"absorbed"`
}

type membershipView struct {
	Segment string    `json:"segment"`
	Since   time.Time `json:"since"`
}

type scoreView struct {
	Score      string             `json:"score"`
	Value      float64            `json:"value"`
	Label      string             `json:"label,omitempty"`
	Components map[string]float64 `json:"components,omitempty"`
	At         time.Time          `json:"at"`
}

type journeyView struct {
	Journey  string    `json:"journey"`
	Version  int64     `json:"version"`
	Instance string    `json:"instance_id"`
	Step     string    `json:"step,omitempty"`
	Status   string    `json:"status"`
	Reason   string    `json:"reason,omitempty"`
	At       time.Time `json:"at"`
}

func newProfileView(p *decisionv1.GetProfileResponse) profileView {
	view := profileView{
		Tenant: p.GetTenant(), ProfileID: p.GetProfileId(), Traits: json.RawMessage(p.GetTraits()), Consents: p.GetConsents(),
		Identifiers: []string{}, Memberships: []membershipView{}, Scores: []scoreView{}, Journeys: []journeyView{},
		FirstSeen: at(p.GetFirstSeenMs()), LastSeen: at(p.GetLastSeenMs()), Events: p.GetEvents(), Absorbed: p.GetAbsorbed(),
	}
	if len(view.Traits) == 0 {
		view.Traits = json.RawMessage("{}")
	}
	for _, id := range p.GetIdentifiers() {
		view.Identifiers = append(view.Identifiers, id.GetNamespace()+":"+id.GetValue())
	}
	for _, m := range p.GetMemberships() {
		view.Memberships = append(view.Memberships, membershipView{Segment: m.GetSegment(), Since: at(m.GetSinceMs())})
	}
	for _, s := range p.GetScores() {
		view.Scores = append(view.Scores, scoreView{Score: s.GetScore(), Value: s.GetValue(), Label: s.GetLabel(), Components: s.GetComponents(), At: at(s.GetAtMs())})
	}
	for _, j := range p.GetJourneys() {
		view.Journeys = append(view.Journeys, journeyView{
			Journey: j.GetJourney(), Version: j.GetVersion(), Instance: j.GetInstanceId(), Step: j.GetStep(),
			Status: j.GetStatus(), Reason: j.GetReason(), At: at(j.GetAtMs()),
		})
	}
	return view
}

func at(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
