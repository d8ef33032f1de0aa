package bank_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/services/sillage/internal/demo/bank"
)

func TestASeedAlwaysPlaysTheSame(t *testing.T) {
	again := bank.Visits(bank.People(7, 200))
	require.Equal(t, bank.Visits(bank.People(7, 200)), again)
	require.NotEqual(t, bank.People(7, 200), bank.People(8, 200))
}

func TestEveryoneHasAPart(t *testing.T) {
	kinds := map[bank.Kind]int{}
	for _, p := range bank.People(1, 400) {
		kinds[p.Kind]++
	}
	for _, k := range []bank.Kind{bank.Browser, bank.Abandoner, bank.Reader, bank.Buyer, bank.Complainer} {
		require.Greater(t, kinds[k], 10, k)
	}
	require.Greater(t, kinds[bank.Abandoner], kinds[bank.Buyer])
}

func TestVisitsAreInOrderAndMessageIDsUnique(t *testing.T) {
	seen := map[string]bool{}
	var last time.Duration
	for _, a := range bank.Visits(bank.People(3, 300)) {
		require.False(t, seen[a.Call.MessageID], a.Call.MessageID)
		seen[a.Call.MessageID] = true
		require.GreaterOrEqual(t, a.After, last)
		last = a.After
	}
	require.Less(t, last, 2*time.Hour)
}

func TestAnAbandonerStartsAndDoesNotFinishUnlessAlone(t *testing.T) {
	started, finished := map[string]bool{}, map[string]bool{}
	people := bank.People(3, 300)
	for _, a := range bank.Visits(people) {
		switch a.Call.Event {
		case "Loan Application Started":
			started[a.Call.AnonymousID] = true
		case "Loan Application Submitted":
			finished[a.Call.AnonymousID] = true
		}
	}
	for _, p := range people {
		id := p.AnonymousID()
		require.Equal(t, p.Abandons() || p.Kind == bank.Buyer, started[id], "%+v", p)
		require.Equal(t, p.Kind == bank.Buyer || p.Abandons() && p.ReturnsAlone > 0, finished[id], "%+v", p)
	}
}

func TestNumberReadsBackWhoItIs(t *testing.T) {
	for _, p := range bank.People(5, 20) {
		n, ok := bank.Number(p.Email())
		require.True(t, ok)
		require.Equal(t, p.Number, n)
	}
	_, ok := bank.Number("someone@else.example")
	require.False(t, ok)
}
