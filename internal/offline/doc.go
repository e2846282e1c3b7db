// Package offline opens the data directory of a member that does not run, for tools that look at it.
//
// # Guarantees
//
//  1. Nothing in the directory is changed, and no member can start in it meanwhile: its locks are held.
//  2. What is wrong with the directory as a whole (a half of it missing, halves of different members, a log that ends before the
//     state, a restore that did not finish) is ErrRefused, with the reason: the same that the server gives.
//
// # What it refuses
//
// It replays nothing. What was committed and not applied when the member ended is told (Directory.Behind), and whoever needs it
// starts the member and stops it again.
package offline
