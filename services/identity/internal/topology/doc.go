// Package topology carries the resolver and the graph on the stream runtime: it decodes records, hands
// them to the pure packages and writes their decisions to the topics.
//
// It promises the order that downstream merging rests on. The graph writes MergeAnnounced on the
// survivor's key, MergedInto on the ending key and the Assignment in one transaction; the resolver emits
// the event that asked only when it has read the Assignment, that is after that transaction committed.
// So in the survivor's partition the announcement stands before every event that the merge caused.
// TestMergeIsAnnouncedBeforeWhatItCaused would catch the loss of it.
package topology
