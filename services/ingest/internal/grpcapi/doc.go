// Package grpcapi is the gRPC side of ingest: IntakeService, by the rules of the tracking API over HTTP.
//
// It promises: an event is acknowledged only once Kafka has it; each request of a stream is answered once, in
// order; what waits in a stream is bounded, so that a client that sends faster than Kafka takes is held up by
// flow control; a call that is to be sent again says when. An event becomes the JSON of the tracking API and
// goes through the same decoder: there is one set of rules (TestGRPCIsHTTP compares the two).
package grpcapi
