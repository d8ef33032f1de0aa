// Package clients runs the stock clients of Segment, RudderStack and Jitsu against a running `sillage up`
// with nothing changed but their host, and looks at the end of the path what became of their calls.
//
// Each plays the same visit: an anonymous page and product view, a sign-in, an order, a group, a name from
// before (alias), then somebody else on the same device. Between it and ingest stands a proxy that throttles
// once (429), once takes the request and answers 503 (so that the client sends again what is there already),
// and once fails (500). The tests hold every client to: each call is stored exactly once, under the person
// who made it, and the stranger's under another.
//
// The tests need Node.js, the clients (`make clients`) and for the browsers Chromium, so they carry the
// build tag `clients`; `make test-clients` runs them.
package clients
