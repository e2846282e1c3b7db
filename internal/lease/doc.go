// Package lease keeps the leases of a state: their times to live, as granted and as checkpointed, and which keys hang on
// them. It is replicated: what it holds follows from the log alone, and it reads no clock. When a lease ends is decided by
// the leader's lessor (package member) and comes back here as a command of the log.
//
// # Words
//
// An attachment says that a key hangs on a lease. A checkpoint is what the leader says is left of a lease's time to
// live, so that another leader need not begin anew. A group is a number of entries that one batch writes.
//
// # Invariants
//
//  1. The leases in memory are those on disk, once a group was published; attachments are on disk alone, only their
//     number and length are kept for each lease.
//  2. Each attachment belongs to a lease that exists. A lease is removed by an entry that also takes off all its keys.
//  3. A key hangs on one lease at most, the one that its newest version names. Package apply sees to that: it
//     derives every attachment from the changes of keys. A key that was taken over from etcd when its lease was gone hangs on none
//     until it is put again.
//
// # Who writes and who reads
//
// Apply alone changes leases: Begin, changes, then Publish once the batch was committed, or Close alone to drop the
// group. A Change sees the group's own work; readers, in any goroutine, see published groups only.
//
// # Locks
//
// Table.mu guards the map of leases and is held for a look-up, for a copy of all leases (List) or for the
// leases that one group changed. Nothing is called and nothing is read from disk while it is held.
//
// # What it refuses
//
// It knows no clock, no deadline and no client. It does not delete keys, and it does not bound their number: the
// proposer does, with KeyCount and KeyBytes.
package lease
