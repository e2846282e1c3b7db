// Package lease keeps the leases of a state: their times to live, as granted and as checkpointed, and which keys hang on
// them. It is replicated: what it holds follows from the log alone, and it reads no clock. When a lease ends is decided by
// the leader's lessor (package member) and comes back here as a command of the log.
package lease
