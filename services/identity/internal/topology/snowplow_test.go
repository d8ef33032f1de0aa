package topology_test

import (
	"cmp"
	"encoding/csv"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/topics"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
)

type row map[string]string

func readCSV(t *testing.T, name string) []row {
	f, err := os.Open(filepath.Join("testdata", "snowplow_web", name))
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	records, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	var rows []row
	for _, record := range records[1:] {
		r := row{}
		for i, column := range records[0] {
			r[column] = record[i]
		}
		rows = append(rows, r)
	}
	return rows
}

func timestamp(t *testing.T, text string) time.Time {
	at, err := time.Parse("2006-01-02 15:04:05.999", text)
	require.NoError(t, err)
	return at
}

// replaySnowplow sends the events in the order in which they reached the collector.
func replaySnowplow(t *testing.T, definitions definition.Provider) *outcome {
	rows := readCSV(t, "events.csv")
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(a["collector_tstamp"], b["collector_tstamp"]) })
	r, g := topologies(t, definitions)
	d, err := stream.NewDriver(stream.DriverConfig{Start: timestamp(t, rows[0]["collector_tstamp"])}, r, g)
	require.NoError(t, err)
	for _, row := range rows {
		arrived := timestamp(t, row["collector_tstamp"])
		require.NoError(t, d.Advance(arrived))
		event := &eventv1.Event{
			MessageId: row["event_id"], Tenant: tenant, Source: "web", Name: row["event_name"],
			TimestampMs: timestamp(t, row["derived_tstamp"]).UnixMilli(), ReceivedAtMs: arrived.UnixMilli(),
		}
		for _, id := range [][2]string{{"anonymous_id", row["domain_userid"]}, {"user_id", row["user_id"]}} {
			if id[1] != "" {
				event.Identifiers = append(event.Identifiers, &eventv1.Identifier{Namespace: id[0], Value: id[1]})
			}
		}
		send(t, d, event)
	}
	noDeadLetters(t, d)
	o := readOutcome(t, d.Output(topics.ProfileLog), d.Output(topics.Ledger), d.Output(topics.Links))
	checkAnnouncements(t, o)
	require.Len(t, o.order, 157)
	require.Equal(t, map[string]int{
		"9e983d4a-e07c-4858-8e97-bdb7feb31241": 1, "1b4b3b57-3cb7-4df2-a7fd-526afa9e3c76": 1, "17e6ae5e-d694-4241-8663-4118e950fc38": 1,
	}, o.duplicates)
	return o
}

// TestSnowplowUsers: with limits off, the people are the users that the warehouse model stitches.
func TestSnowplowUsers(t *testing.T) {
	o := replaySnowplow(t, limits(1000))

	byUser, byProfile, views := map[string]string{}, map[string]string{}, map[string]int{}
	for _, view := range readCSV(t, "page_views_expected.csv") {
		require.Contains(t, o.profile, view["event_id"])
		profile, user := o.final(o.profile[view["event_id"]]), view["stitched_user_id"]
		views[profile]++
		if have, ok := byUser[user]; ok {
			require.Equal(t, have, profile, "%q is two people", user)
		}
		if have, ok := byProfile[profile]; ok {
			require.Equal(t, have, user, "one profile is two users")
		}
		byUser[user], byProfile[profile] = profile, user
	}

	// For two users the published users count more page views than the published page views hold.
	unlisted := map[string]int{"No edge cases": 2, "stray page ping": 1}
	seen := map[string]bool{}
	for _, user := range readCSV(t, "users_expected.csv") {
		profile := o.owner[user["user_id"]]
		require.NotEmpty(t, profile)
		require.Equal(t, profile, o.owner[user["domain_userid"]], user["user_id"])
		require.Equal(t, user["page_views"], strconv.Itoa(views[profile]+unlisted[user["user_id"]]), user["user_id"])
		require.False(t, seen[profile])
		seen[profile] = true
	}
	require.Len(t, seen, 11)
}

// TestSnowplowSharedDevice: under the default policy the ten user ids of one browser stay ten people, and
// every event is its user's.
func TestSnowplowSharedDevice(t *testing.T) {
	o := replaySnowplow(t, definition.Static(definition.NewSnapshot()))
	people := map[string]string{}
	for _, event := range readCSV(t, "events.csv") {
		profile := o.final(o.profile[event["event_id"]])
		require.Equal(t, o.owner[event["user_id"]], profile)
		if have, ok := people[profile]; ok {
			require.Equal(t, have, event["user_id"])
		}
		people[profile] = event["user_id"]
	}
	require.Len(t, people, 25)
}
