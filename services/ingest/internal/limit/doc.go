// Package limit keeps one producer from starving the others. It is pure: it is told the time and what comes
// in, and says what may pass.
//
//   - [Quota]: token buckets for the calls and events of a source and of a tenant.
//   - [Identities]: a bound for each identity, so that one anchor sending far more than a person can (a loop, a
//     constant in place of an id) does not fill the one partition that its events must share with others.
//   - [Names]: a cap on distinct event names of a source, since every report, schema and dictionary has a line
//     for each.
//
// What it promises: memory is fixed by the settings, never by what producers send; a name or identity within
// its bound passes whatever the others do (TestOneHotIdentityStarvesNobody, TestKnownNamesPassWhenFull,
// TestQuotaAgainstAnOracle). Its limit: each process counts for itself, so a bound over several instances is
// about the sum of theirs.
package limit
