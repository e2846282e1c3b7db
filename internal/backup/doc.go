// Package backup keeps points in time of a cluster in a directory: full ones, and increments to the one before
// (docs/format/backup.md).
//
// # Guarantees
//
//  1. A point is the content of its source at one instant: every version of every key that the source still had, at its
//     revision, and all leases, users, roles, members and alarms. Export gives back exactly that.
//  2. Every file has a checksum in the point's manifest, which is written last. A crash at any instant leaves the points before it
//     usable.
//  3. A content that was transferred whole is not transferred again when the run that fetched it was interrupted. Nor is what of it
//     had come, to the last whole MiB, when its transfer was cut and the source still has it; each MiB has a checksum, which is
//     compared first, and the whole has one that decides.
//  4. An increment is refused to a source that is not a later state of the same store (ErrDiverged).
//  5. Memory is bounded, whatever the content.
//
// # What it refuses
//
// It knows no network: whoever calls has a Source. It removes no point unless told to.
package backup
