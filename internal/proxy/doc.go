// Package proxy serves clients in front of a cluster: the gateway passes TCP connections on, the gRPC proxy passes requests on
// and lets many clients look like few.
//
// # Words
//
//   - Upstream is the cluster behind the proxy, and a connection to one of its members.
//   - An identity is what a request says about who sends it: its token, and whether it wants a leader. Nothing is shared
//     between requests of different identities, so that upstream decides for each of them what it may do.
//   - A watch is private while an upstream watcher serves it alone, and shared once a feed serves it and others.
//
// # Rules of the gRPC proxy
//
//  1. An answer is upstream's. Requests are passed on with the identity and the deadline of the client, errors come back as they
//     are, and nothing is sent a second time.
//  2. Only answers to serializable reads are kept, for a bounded time, by identity, and no longer than until a write that
//     goes through this proxy touches their keys. A linearizable read goes upstream, unless the proxy owns its key (owner.go).
//  3. A watch gets every event of its keys in order, once, whoever serves it: it changes from one upstream watcher to another only
//     where both have told it the same. When a feed ends for any reason, each of its watches goes on by itself from the
//     first revision it has not got, and hears from upstream itself what was wrong.
//  4. The answer to a lease's renewal is that of a renewal that was sent after it was asked for.
//  5. A stream ends when what it stands on ends, with upstream's reason. No stream is accepted that nobody serves.
//
// # Locks
//
// hub.mu guards all state of watches; nothing is sent or received while it is held. A client's queue is bounded: a shared watch
// whose client is too slow for it becomes private, and a private one lets upstream wait.
//
// The package is a client and a server of the API and never a member: it opens no data directory but for the certificate
// that --auto-tls makes.
package proxy
