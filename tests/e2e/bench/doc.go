// Package bench measures what BENCHMARKS.md states: each figure of the real parts against a baseline that
// does the least that the task needs, on the same broker and machine, in turns (A B A B) in one process,
// so that a slow minute slows both. A figure is the median of the pairs' ratios; its spread is their least
// and greatest.
//
// A figure states a ratio, never a pass: no test fails on a time. Load, broker and system share the
// machine, and all listen on loopback only. Each figure has a process of its own (`tests/e2e/cmd/bench`), because
// the ClickHouse library starts once a process and so that no figure pays for the garbage of another.
// TestFiguresMeasure runs each figure small and would catch one that measures nothing.
package bench
