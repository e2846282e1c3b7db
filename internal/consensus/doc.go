// Package consensus drives the raft library for one member: it turns proposals
// into committed entries and hands them, in order, to a state machine. It knows
// nothing of keys and values.
//
// # Threads
//
// Three loops, each a goroutine of its own when the node is started and each a
// method that can be called step by step (Turn, AppendTurn, ApplyTurn), which is
// how the simulator runs whole clusters in one goroutine:
//
//   - the raft loop owns the raft.RawNode; nothing else touches it. A turn drains
//     everything that waits (proposals, messages, storage responses, reads, ticks)
//     and takes one Ready, so batching comes from load and a lone request waits for
//     nobody: where requests come one by one, whoever brings something takes the turn
//     himself, under a lock that the loop takes for its own (hurry). While a leader's log is being written proposals gather: the next write
//     takes all of them.
//   - the append loop writes to the log: all that waits in one batch and one sync. A
//     commit index that comes alone, a hint for restarts, is written with the next
//     entries, at the next tick, or when the node stops.
//   - the apply loop gives committed entries to the StateMachine.
//
// A turn never blocks on the other two loops, nor on peers. Whoever may take one (Step, ReadBarrier, a Proposal that says so) holds no
// lock that the callbacks of a turn take.
//
// The news that something is committed waits a little for entries to go with, while those come one after another (notices).
//
// # Invariants
//
//  1. A response that raft attached to a storage message is delivered only after
//     that write, and all writes before it, are done (synced where entries, term
//     or vote changed). So is what asks others for their votes in an election.
//  2. Only entries stable in the local log are applied (AsyncStorageWrites), so
//     the applied index never passes the log's last index.
//  3. A configuration change is applied to raft by the raft loop, between the
//     entries before it and those after it; its resulting ConfState is stored in
//     the batch of its own entry.
//  4. While a snapshot is installed the append loop stands still; the log's
//     Install is the commit point (docs/decisions/recovery.md).
//  5. Each ReadIndex context is unique over members and restarts. One batch of
//     reads is in flight; the next one gathers meanwhile. A leader's batch holds what
//     other members have asked, too.
//
// # Failure
//
// An error of the log or of the state machine is final: Config.Fatal is called
// once, no response of the failed write is delivered, and all loops stop. Of a log that cannot be read raft
// would panic; the turn ends the node with the log's error instead.
//
// What no sound member sends is thrown away before raft sees it, and of what others propose all that could not be applied: committed it would end
// every member, at each start anew (strange.go).
package consensus
