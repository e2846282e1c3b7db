// Package raftlog is the durable log of one member: the entries that raft has given it, its hard state, and
// the mark below which entries were cut off. It is written in order to segment files; docs/format/log.md describes the
// records and docs/decisions/recovery.md what a crash leaves of them. A log that an earlier release has kept in Pebble is taken
// over at Open.
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
//  1. Append with sync, Install and Bootstrap return nil only after their one record is synced. After an error
//     nothing was acknowledged, and the log is failed for good: storage.Options.Fatal was called. No sync is tried again.
//  2. A record is whole or not there after a crash. In particular no entry of an overwritten tail comes back.
//  3. First and last index, mark and entries read back are those of the last successful call.
//  4. Open reads every byte and refuses a log in which anything is damaged, missing or not possible, and says where. Damage
//     is told from a torn tail as docs/format/log.md says. Reading compares the checksum of each entry again.
//
// # Concurrency
//
// Bootstrap, Append and Install are for one goroutine at a time (the append loop). Cut may come from any goroutine, and
// everything that reads from several. mu guards what is in memory and is never held over the disk; write
// orders the records and is held over their sync. Order: write before mu. A reader holds the segments that it reads, and
// nothing in a segment is ever written again, so it needs no lock and outlives a cut.
//
// Entries are immutable: those given to Append are kept and must not change afterwards, nor may those
// that Entries returns. The slices that hold them belong to the receiver.
//
// # What it refuses
//
// It knows raft's messages and nothing of raft's rules: who may append what is decided above. It never
// cuts by itself and never repairs.
package raftlog
