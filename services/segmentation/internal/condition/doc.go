// Package condition compiles the segments of one tenant into a program.
//
// A program has three layers. Filters say which events count; equal ones are matched once for each
// event, and only those that name the event, or none, are looked at. Leaves are the sub-conditions with a
// state of their own (a count in a window, an abandonment, an inactivity, an expression on the profile);
// equal ones, by canonical form, are one leaf with one state, however many segments use them, and a leaf
// keeps its identity through changes of definitions elsewhere. Nodes join leaves by all, any and not; a
// reference to another segment is that segment's own node. Nodes stand after those that they need, so that
// one pass from first to last evaluates every segment.
//
// Compiling is total: a segment that cannot be compiled (which validated definitions never are) is left
// out with its error, and whatever refers to it with it; the others live on. A Program is immutable and
// safe for concurrent use.
package condition
