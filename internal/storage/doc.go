// Package storage opens the database of a member and is the only importer of Pebble.
//
// # Words
//
// The state is the database that holds what the entries of the raft log did; it has no write-ahead log, because the raft
// log (package raftlog) is one. It is a DB here. Releases before 0.2 had the raft log in a second database, which can still be
// read. A generation is one directory
// of the state. An Identity says to which member, and to which life of its data, a directory belongs. The
// records themselves are described in docs/format, and what survives a crash in docs/decisions/recovery.md.
//
// # Guarantees
//
//  1. Commit never syncs: what is durable is what was flushed, which is always a prefix of the batches in their order.
//  2. After the first failure of a write, a sync, a flush or a checksum the DB is failed for good: every
//     method returns an error that wraps ErrFailed, Options.Fatal has been called once, and nothing is
//     created, renamed or removed in the directory any more. A failed sync is never retried.
//  3. No two processes, and no two users in one process, have one directory open.
//
// # Failures
//
// Pebble ends the process by Logger.Fatalf when it cannot go on, and its callers assume that it does not return.
// Here Fatalf calls Options.Fatal, which in the binary exits. In tests it returns; then Fatalf returns too, behind a
// fence: from the failure on nothing that Pebble does reaches the disk, and all of it seems to succeed (fence). So the
// directory holds what a crash at that moment would leave, whatever Pebble goes on to do. Parking the goroutine
// instead would leave Pebble's locks held and Close waiting, and ending it by runtime.Goexit would leave Close waiting
// for a flush that never ends.
// Failures of the write-ahead log, which is there although nothing is written to it, of syncing a directory and
// of the manifest and its marker are kept away from Pebble altogether, because it panics on them (writtenFile); and so are all that a database
// meets while it is being opened, because what Pebble closes then is still used by compactions (fence).
//
// # Locks
//
// A DB is safe for concurrent use; a Batch and an Iterator belong to one goroutine. Options.Fatal may be
// called while Pebble holds its locks: it must not call the DB and must not block. Options.OnFlush is
// called from a goroutine of its own and may.
//
// # What it refuses
//
// It knows no raft and no protobuf, interprets no record but the identity, and never repairs: a directory with
// a wrong checksum, a missing file or a newer format is an error that names it.
package storage
