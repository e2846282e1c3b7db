// Package mvcc keeps keys times revisions: the key-value part of the state.
//
// # Words
//
// A revision is one step of the store's logical time. An entry of the log that changes something takes the
// next one (its main number); the changes in it are counted from 0 (the sub number). A version is what one change
// made of a key: a KeyValue or, for a delete, a tombstone. A key is live at a revision when its newest version at
// or below it is no tombstone. A group is a number of entries written by one batch. A run is a stretch of at
// most about a thousand live keys, in key order, of which only the first key and the number are kept (see
// runs.go). The bytes of all of it stand in docs/format/state.md.
//
// # Who writes and who reads
//
// One goroutine, apply, writes: NewWriter, then Begin, changes and End for each entry, then Commit. Background
// compaction (CompactStep) may run beside it. Any number of goroutines read through Views, each of which sees
// the store as it was when it was opened, never waits for a writer and never makes one wait.
//
// A put needs the newest version of its key. The Writer remembers those of keys written lately (heads.go), and a group that
// tells its keys beforehand (Writer.Expect) lets a few goroutines read the others meanwhile (ahead.go); both read
// committed state only, which the group does not change, so they change no result.
//
// A Writer works in memory that the one before has used; what goes out with events is never written again (spare.go).
//
// Reads of one key at the current revision look first at what is kept of keys that are read again and again (newest.go).
//
// How long a large range was is remembered, and corrected by what history says has changed since (extent.go).
//
// A compaction keeps a hash of the content, as etcd does (kept.go); it is made by the compaction's first slice.
//
// # Invariants
//
//  1. The published state (revision, compact revision, runs) is one immutable value behind one atomic pointer. It
//     is replaced after the batch that made it true was committed: a reader that took revision R finds all
//     of R in an iterator opened later.
//  2. The compact revision is published before the first deletion it allows. A View opens its iterator
//     first and looks at the compact revision afterwards, so what it may read is still in its iterator.
//  3. A View ignores every version above the revision it took, so a group is seen whole or not at all.
//  4. history holds exactly the versions that data holds.
//  5. The published runs count the live keys at the published revision.
//  6. A version with a large value has a stub in data and lies in a record of its own, both or neither (large.go).
//     A KV is always whole: a record of data becomes one in values.whole alone.
//  7. What Writer decides depends on the log alone: not on the progress of compaction, the runs, the clock, or
//     the order of a map.
//
// # Locks
//
// Store.compacting serialises the slices of compaction, which write no record that a Writer writes. What is remembered of
// ranges (memory.go) and the gate (who still uses the database, see Retire) have locks of their own that are held for a few
// instructions only. Nothing is called back while one of them is held.
//
// # What it refuses
//
// It knows no request messages, leases (a number beside a key), permissions or watchers; it reads no clock
// and no randomness. It does not check limits of request sizes.
package mvcc
