// Package raftlog is the durable log of one member: the entries that raft has given it, its hard state, and
// the mark below which entries were cut off. It is a Pebble database of its own; docs/format/log.md describes the
// records and docs/decisions/recovery.md what a crash leaves of them.
//
// # Words
//
// An entry has an index and a term. The mark is the entry just before the first one: cut off, or covered
// by an installed snapshot. Entries exist for exactly [mark.index + 1, last]. To overwrite a tail is to
// append at an index that is already there: everything above it goes. A seal is an empty synced record that
// proves, at the next start, that the records before it had been synced.
//
// # Guarantees
//
//  1. Append with sync, Install and Bootstrap return nil only after their one batch is synced. After an error
//     nothing was acknowledged, and the log is failed for good: storage.Options.Fatal was called.
//  2. A batch is whole or not there after a crash. In particular no entry of an overwritten tail comes back.
//  3. First and last index, mark and entries read back are those of the last successful call.
//  4. Open refuses a log with a gap, an unreadable record or an unknown key, and says which. Damage in
//     the middle of the write-ahead log is told from a torn tail as docs/format/log.md says.
//
// # Concurrency
//
// Bootstrap, Append and Install are for one goroutine at a time (the append loop). Cut may come from any goroutine, and
// everything that reads from several. mu guards what is in memory and is never held over the disk; write
// orders the batches and is held over their sync. Order: write before mu.
//
// Entries are immutable: those given to Append are kept and must not change afterwards, nor may those
// that Entries returns. The slices that hold them belong to the receiver.
//
// # What it refuses
//
// It knows raft's messages and nothing of raft's rules: who may append what is decided above. It never
// cuts by itself and never repairs.
package raftlog
