// Package httpapi is the HTTP side of ingest: endpoints and headers of the tracking API and its clients,
// bodies, and answers that those clients understand. What is taken in is package intake's to say.
//
// It promises: a body never takes more memory than the source's limit; 503 and 429 say when to come back;
// every request that was begun is answered. The tests of package app drive it over HTTP and a broker.
package httpapi
