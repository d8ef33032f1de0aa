package journey

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/profile"
	"github.com/sillage-cdp/sillage/pkg/rule"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/quiet"
)

// Hash names a frozen definition: the first 16 bytes of the SHA-256 of its encoding.
type Hash [16]byte

// String is the hash in hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Compile compiles a journey's definition as it is in force.
func Compile(def *definitionv1.Definition) (*Graph, error) {
	frozen, err := freeze(def)
	if err != nil {
		return nil, err
	}
	return compile(def, frozen)
}

// Thaw compiles a frozen definition.
func Thaw(frozen []byte) (*Graph, error) {
	var def definitionv1.Definition
	if err := def.UnmarshalVT(frozen); err != nil {
		return nil, fmt.Errorf("decoding a frozen journey: %w", err)
	}
	return compile(&def, frozen)
}

// freeze encodes what a passage needs of a definition: without what only people read. The encoding is
// deterministic, for there are no maps in it.
func freeze(def *definitionv1.Definition) ([]byte, error) {
	spec := def.GetJourney()
	if spec == nil {
		return nil, fmt.Errorf("definition %s/%s is no journey", def.GetTenant(), def.GetName())
	}
	lean := &definitionv1.Definition{
		Tenant: def.GetTenant(), Name: def.GetName(), Version: def.GetVersion(),
		Spec: &definitionv1.Definition_Journey{Journey: &definitionv1.Journey{
			Entry: spec.GetEntry(), Reentry: spec.GetReentry(), Steps: spec.GetSteps(), Exits: spec.GetExits(),
		}},
	}
	frozen, err := lean.MarshalVT()
	if err != nil {
		return nil, fmt.Errorf("freezing journey %s/%s: %w", def.GetTenant(), def.GetName(), err)
	}
	return frozen, nil
}

func compile(def *definitionv1.Definition, frozen []byte) (*Graph, error) {
	spec := def.GetJourney()
	if spec == nil {
		return nil, errors.New("a frozen definition is no journey")
	}
	sum := sha256.Sum256(frozen)
	g := &Graph{
		Tenant: def.GetTenant(), Name: def.GetName(), Version: def.GetVersion(),
		Hash: Hash(sum[:len(Hash{})]), Frozen: frozen, Reentry: Never,
		index: make(map[string]int, len(spec.GetSteps())),
	}
	c := compiler{graph: g}
	c.entry(spec)
	c.steps(spec.GetSteps())
	c.exits(spec.GetExits())
	if err := errors.Join(c.errs...); err != nil {
		return nil, fmt.Errorf("compiling journey %s/%s version %d: %w", g.Tenant, g.Name, g.Version, err)
	}
	return g, nil
}

// compiler gathers the errors of all fields.
type compiler struct {
	graph *Graph
	errs  []error
}

func (c *compiler) fail(path string, err error) {
	if err != nil {
		c.errs = append(c.errs, fmt.Errorf("%s: %w", path, err))
	}
}

func (c *compiler) entry(spec *definitionv1.Journey) {
	entry := spec.GetEntry()
	c.graph.Entry = c.trigger("entry", entry.GetEvent(), entry.GetSegment())
	c.graph.Where = c.where("entry.where", entry.GetWhere())
	if reentry := spec.GetReentry(); reentry != "" && reentry != "never" {
		d, err := definition.ParseDuration(reentry)
		c.fail("reentry", err)
		c.graph.Reentry = d
	}
}

func (c *compiler) exits(rules []*definitionv1.ExitRule) {
	for i, r := range rules {
		on := c.trigger(fmt.Sprintf("exits[%d]", i), r.GetEvent(), r.GetSegment())
		c.graph.Exits = append(c.graph.Exits, ExitRule{Reason: r.GetReason(), On: on})
	}
}

func (c *compiler) trigger(path string, event *definitionv1.EventFilter, flip *definitionv1.SegmentFlip) Trigger {
	switch {
	case (event == nil) == (flip == nil):
		c.fail(path, errors.New("exactly one of event and segment must be set"))
		return Trigger{}
	case flip != nil:
		if on := flip.GetOn(); on != "" && on != "entered" && on != "exited" {
			c.fail(path+".segment.on", fmt.Errorf("%q is neither entered nor exited", on))
		}
		return Trigger{Segment: flip.GetName(), Entered: flip.GetOn() != "exited"}
	default:
		filter, err := rule.CompileFilter(event)
		c.fail(path+".event", err)
		return Trigger{Event: filter}
	}
}

func (c *compiler) where(path, expression string) *rule.Profile {
	if expression == "" {
		return nil
	}
	compiled, err := rule.CompileProfile(expression)
	c.fail(path, err)
	return compiled
}

func (c *compiler) steps(steps []*definitionv1.Step) {
	if len(steps) == 0 {
		c.fail("steps", errors.New("there must be at least one"))
	}
	for i, s := range steps {
		if _, twice := c.graph.index[s.GetId()]; twice || s.GetId() == "" {
			c.fail(fmt.Sprintf("steps[%d].id", i), fmt.Errorf("%q is empty or used twice", s.GetId()))
		}
		c.graph.index[s.GetId()] = i
	}
	for i, s := range steps {
		following := i + 1
		if following == len(steps) {
			following = End
		}
		path := fmt.Sprintf("steps[%d]", i)
		step := Step{ID: s.GetId(), Next: c.target(path+".next", s.GetNext(), following)}
		c.kind(path, s, &step)
		c.graph.Steps = append(c.graph.Steps, step)
	}
}

// target is the place of a step that is named, or the one that stands in for an empty name.
func (c *compiler) target(path, id string, otherwise int) int {
	if id == "" {
		return otherwise
	}
	i, ok := c.graph.Index(id)
	if !ok {
		c.fail(path, fmt.Errorf("there is no step %q", id))
	}
	return i
}

func (c *compiler) kind(path string, s *definitionv1.Step, step *Step) {
	kinds := 0
	for _, set := range []bool{s.GetWait() != nil, s.GetWaitFor() != nil, s.GetBranch() != nil, s.GetSplit() != nil, s.GetSend() != nil, s.GetExit() != nil} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		c.fail(path, errors.New("exactly one of wait, wait_for, branch, split, send and exit must be set"))
		return
	}
	switch {
	case s.GetWait() != nil:
		c.wait(path+".wait", s.GetWait(), step)
	case s.GetWaitFor() != nil:
		c.waitFor(path+".wait_for", s.GetWaitFor(), step)
	case s.GetBranch() != nil:
		c.branch(path+".branch", s.GetBranch(), step)
	case s.GetSplit() != nil:
		c.split(path+".split", s.GetSplit(), step)
	case s.GetSend() != nil:
		c.send(path+".send", s.GetSend(), step)
	default:
		step.Kind, step.Reason = Exit, s.GetExit().GetReason()
	}
}

func (c *compiler) wait(path string, w *definitionv1.Wait, step *Step) {
	step.Kind = Wait
	switch {
	case (w.GetFor() == "") == (w.GetUntil() == ""):
		c.fail(path, errors.New("exactly one of for and until must be set"))
	case w.GetUntil() != "":
		tod, err := quiet.ParseTimeOfDay(w.GetUntil())
		c.fail(path+".until", err)
		step.Until, step.HasUntil = tod, true
	default:
		c.duration(path+".for", w.GetFor(), step)
	}
}

// duration refuses 0 besides what the definition language refuses: a wait is what keeps a loop from
// turning on the spot.
func (c *compiler) duration(path, text string, step *Step) {
	d, err := definition.ParseDuration(text)
	if err == nil && d <= 0 {
		err = errors.New("must be longer than 0s")
	}
	c.fail(path, err)
	step.For = d
}

func (c *compiler) waitFor(path string, w *definitionv1.WaitFor, step *Step) {
	step.Kind = WaitFor
	step.On = c.trigger(path, w.GetEvent(), w.GetSegment())
	c.duration(path+".within", w.GetWithin(), step)
	step.Then = c.target(path+".then", w.GetThen(), step.Next)
	step.Otherwise = c.target(path+".otherwise", w.GetOtherwise(), step.Next)
}

func (c *compiler) branch(path string, b *definitionv1.Branch, step *Step) {
	step.Kind = Branch
	if (b.GetWhere() == "") == (b.GetSegment() == "") {
		c.fail(path, errors.New("exactly one of where and segment must be set"))
	}
	step.Where, step.Segment = c.where(path+".where", b.GetWhere()), b.GetSegment()
	step.Then = c.target(path+".then", b.GetThen(), step.Next)
	step.Otherwise = c.target(path+".otherwise", b.GetOtherwise(), step.Next)
}

func (c *compiler) split(path string, s *definitionv1.Split, step *Step) {
	step.Kind, step.Salt = Split, s.GetSalt()
	if step.Salt == "" {
		step.Salt = step.ID
	}
	if len(s.GetArms()) < 2 {
		c.fail(path+".arms", errors.New("there must be at least two"))
	}
	for i, arm := range s.GetArms() {
		if arm.GetWeight() <= 0 {
			c.fail(fmt.Sprintf("%s.arms[%d].weight", path, i), errors.New("must be positive"))
		}
		next := c.target(fmt.Sprintf("%s.arms[%d].next", path, i), arm.GetNext(), step.Next)
		step.Arms = append(step.Arms, Arm{Name: arm.GetName(), Next: next, Holdout: arm.GetHoldout()})
		step.Weights = append(step.Weights, arm.GetWeight())
	}
}

func (c *compiler) send(path string, s *definitionv1.SendStep, step *Step) {
	step.Kind = Send
	step.Message = Message{Channel: s.GetChannel(), Template: s.GetTemplate(), Category: s.GetCategory(), Transactional: s.GetTransactional()}
	if step.Message.Category == "" {
		step.Message.Category = profile.DefaultCategory
	}
	if step.Message.Channel == "" || step.Message.Template == "" {
		c.fail(path, errors.New("channel and template must be set"))
	}
	step.Otherwise = c.target(path+".otherwise", s.GetOtherwise(), step.Next)
}
