// Package differential gives one log to two state machines, etcd's and Ashlar's, and compares them entry by entry.
//
// It is a Go module of its own, so that Ashlar itself never requires etcd's server: go.mod here names the release of
// etcd that is compared with, and takes Ashlar from the directory above. All of it is tests; README.md says how to run
// them and what they compare.
//
// # Words
//
// A command is a request as it stands in a log entry, with its header. A pair is both machines on empty states. Commands are
// offered to the pair one by one: etcd applies each at once, Ashlar in groups of a random length, since a group's
// entries see each other before they are committed. A read is a range or a read-only transaction that never
// enters the log; both machines answer it from their states.
//
// # What is left out
//
// Commands that end a member of etcd, and those that no member ever proposes, are not offered. Each kind has a name
// (skip_test.go), and the table at the end of a run says how many of them there were.
package differential
