// Package peer carries messages between the members of a cluster, over HTTP, in etcd's protocol: members of both kinds
// make one cluster.
//
// # Words
//
//   - remote: another member, with its addresses and what is connected to it.
//   - stream: a GET that stays open. Who wants to receive opens it; the other one writes messages into the answer. There
//     are two kinds, msgapp (appends, in a short form) and message (all others), for each ordered pair of members.
//   - post: one message in a request of its own, for what no stream is up.
//   - state: what a snapshot carries. Between members of our kind it is the stream of docs/format/snapshot.md, otherwise
//     etcd's database file.
//
// # Promises
//
//  1. Send never blocks, and each remote has queues of its own, bounded in messages and bytes: one that is slow or dead
//     delays nobody. What does not fit is dropped and told to raft as unreachable. Appends keep their order while one
//     stream is up, and so do all other messages.
//  2. A stream without a byte for Config.ReadTimeout is dead and is opened again, at most every redialWait, through the next of
//     the remote's addresses. Link heartbeats keep idle ones alive.
//  3. Nothing that comes from the network is believed: every length has a bound before memory is taken for it, and memory
//     grows with the bytes that came; messages that only this member may give itself, and snapshots outside of their own
//     request, are thrown away.
//  4. For every snapshot that is given to SendSnapshot, the outcome is reported to raft once, and its state is closed.
//  5. A member of another cluster, of an incompatible version, or removed from this cluster is refused and told so. When
//     this member is told that it was removed, Config.Removed is called, once.
//
// # Locks
//
// Transport.mu guards the set of remotes, outbox.mu a queue; neither is held over I/O or while the other is taken. streamWriter.mu is held
// by who writes into a stream: its goroutine, who takes it before outbox.mu and may hold it for a write timeout, or a sender, who only
// tries to get it, and holds it for one write that does not block (line).
//
// The package decides nothing: what messages mean, who is a member and what a lease is, it asks (Raft, Answers). It knows
// bytes of a lease's request, since they are the wire's, but no service.
package peer
