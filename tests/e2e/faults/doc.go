// Package faults holds the scenarios that break things on purpose and count what came of it: R3 to R7,
// R11, R14 and R15 of the product's figures. It has no code of its own; its tests are the scenarios.
//
// A scenario runs the topologies of package chain under the load of package workload, injects faults, and
// holds what a read-committed reader saw against package oracle, which knows the answer from the generated
// events alone. Package rig has the brokers, the processes and the reader; package report takes the
// numbers and makes the table of `make faults`.
//
// Every scenario prints its seed; SILLAGE_TEST_SEED runs it again. SILLAGE_FAULTS=full is full length.
package faults
