// Package stack runs `sillage up` as a real process for end-to-end tests, and looks at it only from
// outside: over HTTP, gRPC, SQL, the command line and the files of its outbox. It imports no service.
//
// [Main] builds the binary once for a test binary. [New] takes ports and a data directory that stay the
// same over restarts; [Stack.Start] runs the process and waits until it is ready; [Stack.Kill] is
// `kill -9`, [Stack.Terminate] SIGTERM. When a test fails, what the process wrote is printed.
//
// Helpers that only look take a require.TestingT, so that they may stand in a condition that is tried
// again ([Eventually]).
package stack
