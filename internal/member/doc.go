// Package member is one member of a cluster, without its network services: it
// opens log and state, starts the consensus, and answers the questions that
// services ask: Propose a change, wait at a ReadBarrier, View the state.
//
// # Words
//
//   - generation: one state database with everything loaded from it (mvcc store,
//     membership, state machine). Installing a snapshot replaces the generation as a
//     whole; readers that hold a view of the old one finish on it.
//   - waiter: a proposal that waits for its entry to be applied here.
//   - subject: who asks, by a token that this member has checked (auth.go); it goes into
//     the header of what is proposed for it.
//
// # Promises
//
//  1. Open decides by the table in docs/format/data-dir.md and touches nothing when
//     it refuses.
//  2. Nothing is readable before every entry up to the commit found at start is
//     applied (Ready).
//  3. A proposal answered without error is synced on a quorum and applied here. One
//     that ends with ErrTimeout, ErrStopped or the context's error may still happen.
//  4. The log is cut only below what is durable in the state, and only by the
//     durability loop.
//
// Each background task (compaction, durability, the end of leases, publication of attributes) is a
// type in a file of its own, with a step method that the simulator calls instead.
package member
