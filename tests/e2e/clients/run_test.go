//go:build clients

package clients

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rudderlabs/analytics-go"
	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/tests/e2e/stack"
)

const (
	// envModules is the folder into which `make clients` installs.
	envModules = "SILLAGE_TEST_CLIENTS"
	// envChromium is the browser.
	envChromium = "SILLAGE_TEST_CHROMIUM"
	// clientWithin bounds one client, its retries included, on a busy machine.
	clientWithin = 3 * time.Minute
)

// visit is what a client says of its session.
type visit struct {
	// Visitor is the anonymous id that became the user, Stranger that of somebody else.
	Visitor, Stranger string
	// Failures are the errors that the application heard of.
	Failures []string
	// Said is what the page wrote to its console.
	Said []string
}

// session is one client with its proxy, user and key.
type session struct {
	*testing.T
	client client
	proxy  *proxy
	user   string
	// modules holds node_modules; scripts is a folder with the scripts and a link to it.
	modules, scripts string
	pages            string
}

// node runs a script; before it may end, `until` must return.
func (s *session) node(script string, until func(visit), env ...string) visit {
	cmd := exec.Command("node", filepath.Join(s.scripts, script))
	cmd.Env = append(os.Environ(), append(env,
		"SILLAGE_HOST="+s.proxy.URL, "SILLAGE_KEY="+s.client.key(), "SILLAGE_USER="+s.user,
		fmt.Sprintf("SILLAGE_VISIT_FAULTS=%d", len(s.client.faults)))...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	require.NoError(s, err)
	out, err := cmd.StdoutPipe()
	require.NoError(s, err)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	require.NoError(s, cmd.Start())
	timer := time.AfterFunc(clientWithin, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	var v visit
	err = json.NewDecoder(out).Decode(&v)
	if err == nil {
		until(v)
	}
	require.NoError(s, in.Close())
	_, _ = io.Copy(io.Discard, out) // until its end, as Wait asks
	ended := cmd.Wait()
	require.NoErrorf(s, err, "%s says nothing: %v\n%s", script, ended, &errs)
	require.NoErrorf(s, ended, "%s ends badly:\n%s", script, &errs)
	return v
}

// browser opens a page of the pages' server, which is another origin than ingest's.
func (s *session) browser(page, strategy string, until func(visit)) visit {
	query := url.Values{"host": {s.proxy.URL}, "key": {s.client.key()}, "user": {s.user}, "strategy": {strategy}, "faults": {fmt.Sprint(len(s.client.faults))}}
	// What a strategy holds back must go with the page: it is left at once.
	return s.node("browser.mjs", until, "SILLAGE_PAGE="+s.pages+"/"+page+"?"+query.Encode(), "SILLAGE_LEAVE="+strategy,
		"SILLAGE_CHROMIUM="+os.Getenv(envChromium))
}

// rudderGo plays the visit with RudderStack's client for Go. It knows no anonymous visitor: where the
// anonymous id is missing it sends the user id in its place.
func (s *session) rudderGo() visit {
	v := visit{Visitor: "visitor-" + s.user, Stranger: "stranger-" + s.user}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	fates := make(chan error, 16)
	// A host that ends in a slash makes this client ask for //v1/batch.
	client, err := analytics.NewWithConfig(s.client.key(), s.proxy.URL+"/", analytics.Config{
		Interval: 100 * time.Millisecond, BatchSize: 3, Transport: transport,
		Logger: analytics.StdLogger(log.New(io.Discard, "", 0)), Callback: callback(fates),
	})
	require.NoError(s, err)
	for _, message := range []analytics.Message{
		analytics.Page{AnonymousId: v.Visitor, Name: "Home", Properties: analytics.Properties{"url": "https://shop.example/"}},
		analytics.Track{AnonymousId: v.Visitor, Event: "Product Viewed", Properties: analytics.Properties{"sku": "G-32"}},
		analytics.Identify{AnonymousId: v.Visitor, UserId: s.user, Traits: analytics.Traits{"email": s.user + "@clients.example"}},
		analytics.Track{UserId: s.user, Event: "Order Completed", Properties: analytics.Properties{"revenue": 49.9, "currency": "EUR"}},
		analytics.Group{UserId: s.user, GroupId: "acme", Traits: analytics.Traits{"name": "Acme"}},
		analytics.Screen{UserId: s.user, Name: "Basket"},
		analytics.Alias{UserId: s.user, PreviousId: "former-" + s.user},
		analytics.Page{AnonymousId: v.Stranger, Name: "Away"},
	} {
		require.NoError(s, client.Enqueue(message))
	}
	for range goCalls { // Close would drop what is still to be sent again
		select {
		case err := <-fates:
			require.NoError(s, err)
		case <-time.After(clientWithin):
			require.Fail(s, "the client is not done")
		}
	}
	require.NoError(s, client.Close())
	return v
}

// goCalls is how many calls rudderGo makes.
const goCalls = 8

// callback hands on what became of each message.
type callback chan error

// Success is called by the client.
func (c callback) Success(analytics.Message) { c <- nil }

// Failure is called by the client.
func (c callback) Failure(_ analytics.Message, err error) { c <- err }

// layOut makes the folder of scripts: beside the modules, where Node.js looks for them.
func layOut(t *testing.T) (modules, scripts string) {
	t.Helper()
	modules = filepath.Join(os.Getenv(envModules), "node_modules")
	require.DirExists(t, modules, "%s names no folder with clients: run make clients", envModules)
	require.FileExists(t, os.Getenv(envChromium), "%s names no browser", envChromium)
	scripts = t.TempDir()
	require.NoError(t, os.CopyFS(scripts, os.DirFS(filepath.Join(stack.Root(), "tests/e2e/clients/node"))))
	require.NoError(t, os.Symlink(modules, filepath.Join(scripts, "node_modules")))
	return modules, scripts
}

// key is the write key of the client's source. Jitsu's are pairs.
func (c client) key() string {
	key := "key-of-" + c.name
	if strings.HasPrefix(c.name, "jitsu") {
		key += ":secret"
	}
	return key
}
