package bank

import (
	"fmt"
	"time"
)

// Returned lists what a person does who came back through a mail: the application is finished.
func Returned(p Person, mail string, after time.Duration) []Action {
	known := Call{Type: "track", UserID: p.UserID(), AnonymousID: p.AnonymousID()}
	submitted, subscribed := known, known
	submitted.Event, submitted.MessageID = "Loan Application Submitted", mail+"-submitted"
	submitted.Properties = map[string]any{"product": Product, "amount": p.Amount, "months": p.Months}
	subscribed.Event, subscribed.MessageID = "Loan Subscribed", mail+"-subscribed"
	subscribed.Properties = SubscribedProperties(p, "web")
	return []Action{{After: after, Call: submitted}, {After: after + 30*time.Second, Call: subscribed}}
}

// Called lists what comes of a call that the call centre was asked to make.
func Called(p Person, task string) []Action {
	outcome := "no_answer"
	switch {
	case p.AnswersCall && p.BuysOnCall:
		outcome = "subscribed"
	case p.AnswersCall:
		outcome = "not_interested"
	}
	actions := []Action{{After: 3 * time.Minute, Call: Call{
		Type: "track", Event: "Call Completed", MessageID: task + "-call", UserID: p.UserID(),
		Properties: map[string]any{"outcome": outcome, "agent": fmt.Sprintf("agent-%d", p.Number%7)},
	}}}
	if outcome != "subscribed" {
		return actions
	}
	return append(actions, Action{After: 4 * time.Minute, Call: Call{
		Type: "track", Event: "Loan Subscribed", MessageID: task + "-subscribed", UserID: p.UserID(),
		Properties: SubscribedProperties(p, "phone"),
	}})
}
