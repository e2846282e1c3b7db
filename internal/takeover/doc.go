// Package takeover makes a member of what etcd left in a data directory: the same member of the same cluster, with the same
// keys, revisions, leases, users, votes and log (docs/format/data-dir.md has the steps, docs/decisions/recovery.md what a
// crash at any instant leaves).
//
// # Words
//
// A place is a data directory, and perhaps a directory of the log, where etcd may have left a member. The guard is a file in
// the place of etcd's directory member/, at which etcd fails to start. A source is an etcd member that is locked and
// was read.
//
// # Guarantees
//
//  1. etcd's files are never written. They are renamed, by Claim and Finish.
//  2. As long as a source is open, etcd cannot start on it; after Claim it never can.
//  3. Everything that would stop the member later is refused before Claim, and names file, entry or record.
//  4. Memory is bounded: entries are staged some MiB at a time, versions are imported as in a snapshot that is received.
//
// # What it refuses
//
// It decides nothing about our own directories: whoever calls it has found that they hold no member (package member).
package takeover
