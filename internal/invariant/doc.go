// Package invariant holds checks that run only in test builds.
//
// A type with rules states them in its comment and verifies them in a method called check, by Check.
// Builds with the tag `invariants` panic when a rule is broken; other builds compile the calls away. The
// same tag turns on the checks inside Pebble, so a run with it covers both.
//
// Buffers that are used again are overwritten when they are given back (Poison), so that tests find whoever reads one too long.
//
// A check is never the only guard of data: what may be wrong on a disk, or come from a client or a
// peer, is an error and not an invariant.
package invariant
