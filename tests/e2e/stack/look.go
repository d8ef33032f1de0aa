package stack

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	decisionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/decision/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
)

// Query runs a query on ClickHouse's HTTP interface and decodes each row of the answer, by column name.
func Query[T any](t require.TestingT, s *Stack, query string) []T {
	target := "http://" + s.Ports.SQL + "/?" + url.Values{"database": {"sillage"}, "default_format": {"JSONEachRow"}}.Encode()
	resp, err := s.Client.Post(target, "text/plain", strings.NewReader(query))
	require.NoError(t, err, query)
	defer resp.Body.Close() //nolint:errcheck // read to its end
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body) // what came explains enough
		require.Failf(t, "the query fails", "%s\n%s", query, text)
	}
	var rows []T
	lines := bufio.NewReader(resp.Body)
	for decoder := json.NewDecoder(lines); ; {
		var row T
		err := decoder.Decode(&row)
		if err == io.EOF { // the decoder's documented end
			return rows
		}
		require.NoError(t, err, query)
		rows = append(rows, row)
	}
}

// One is Query for a query with one row.
func One[T any](t require.TestingT, s *Stack, query string) T {
	rows := Query[T](t, s, query)
	require.Len(t, rows, 1, query)
	return rows[0]
}

// Conn is a connection to the gRPC port.
func (s *Stack) Conn() *grpc.ClientConn { return s.conn }

// Profile is the profile behind an identifier by decision's account; nil if there is none.
func (s *Stack) Profile(t require.TestingT, tenant, namespace, value string) *decisionv1.GetProfileResponse {
	profile, err := s.FindProfile(tenant, namespace, value)
	require.NoError(t, err)
	return profile
}

// FindProfile is Profile for callers that are no test.
func (s *Stack) FindProfile(tenant, namespace, value string) (*decisionv1.GetProfileResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	profile, err := decisionv1.NewProfileServiceClient(s.conn).GetProfile(ctx, &decisionv1.GetProfileRequest{
		Tenant: tenant, Identifier: &eventv1.Identifier{Namespace: namespace, Value: value},
	})
	if status.Code(err) == codes.NotFound {
		return nil, nil
	}
	return profile, err
}
