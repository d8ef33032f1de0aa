// Package httpapi is the HTTP side of ingest: it authenticates, bounds, reads and answers, and leaves what
// an event is to package wire and what Kafka has to a Writer.
//
// It promises: 200 only after the Writer has said that every accepted event and every refusal of the
// request is written; 503 with Retry-After when it has not; an unknown key costs no reading; a body never
// takes more memory than the source's limit, all bodies together never more than the handler's; once Drain
// returns, no request that was accepted is unanswered. No identifier, trait or key is logged or measured.
//
// The tests of package app drive it over HTTP and a broker; hostile_test.go there holds the bounds.
package httpapi
