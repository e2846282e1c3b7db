// Package audit writes down who asked for what: one JSON object a line, in a file that is rotated by its size.
//
// A line tells the time, the user, the client's address and certificate, the method, the keys, and how it ended. It never holds a
// value, a password, a hash or a token: Record has no field for any of these, and who fills one in is tested to put none of them
// elsewhere (internal/rpc).
//
// Invariants:
//
//  1. Add never waits, neither for the disk nor for other requests' lines: a stalled disk must not stop the store. Lines that
//     find the queue full (QueueMax bytes) are dropped and counted; as soon as there is room again, a line with that count
//     stands in their place, and the server's log has a warning.
//  2. A line is written whole, or not at all. One that a crash tore is closed by a line break at the next start.
//  3. The files together hold at most MaxBytes times the number of files. FILE.1 is the newest of those that are full.
//
// Lines are on their way to the file at once, but not synced: a power cut can cost the last of them, and kill -9 those
// in the queue.
package audit
