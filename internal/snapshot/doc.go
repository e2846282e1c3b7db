// Package snapshot carries a whole state from one member to another of our kind,
// as the stream that docs/format/snapshot.md describes.
//
// A Reader turns one consistent view of a state into the stream, block by block,
// as it is read: nothing runs ahead of the receiver, and the sender goes on serving.
// Build writes a stream into an empty state. Both hold one block in memory.
//
// Build trusts nothing: magic, version, lengths, checksums, the order and the
// spaces of keys and the number of records are checked before a state is called
// complete. It does not decide when the new state counts; that is the log's
// commit point (docs/decisions/recovery.md).
package snapshot
