// Package intake takes events in, whatever they came by: it finds the source of a write key, holds the call
// to the limits of source and tenant, leaves what an event is to package wire and whether it may pass to
// package door, and has Kafka write events and refusals.
//
// It promises: Taken only after the Writer has said that every accepted event and every refusal of the call
// is written; an unknown key costs nothing but a hash; all bodies and events together never take more than
// Config.MaxInFlightBytes; once Drain returns, no call that was begun is unanswered. No identifier, trait or
// key is logged or measured.
//
// The tests of package app drive it over HTTP, gRPC and a broker; hostile_test.go there holds the bounds.
package intake
