// Package restore makes the data directory of a member out of a database file of etcd's: what a snapshot of a cluster, of etcd
// or of ours, is restored to.
//
// # Words
//
// The members that the new cluster begins with are its founding; their ids, and the cluster's, are those that etcd computes
// from the same names, addresses and token. Each member is restored by itself, from the same file.
//
// # Guarantees
//
//  1. The member has every version, lease, user, role and alarm of the file, at the same revisions. Its revision is the
//     file's, or higher by what was asked for; it is never lower.
//  2. The new cluster's log begins behind its founding: a member that joins later gets the state, and cannot be taken for
//     one that has it.
//  3. A restore that is interrupted leaves a directory that the server refuses by name (storage.ErrUnfinished), or none. One that
//     fails removes what it made.
//
// # What it refuses
//
// A directory that holds anything is not written to; that is looked at under its lock. The content of the file is not judged here:
// whoever calls has compared checksums.
package restore
