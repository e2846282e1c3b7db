// Package rpc is the gRPC front of a member: it checks requests, asks the member, and turns
// its answers and errors into etcd's.
//
// # The way of a KV request
//
// KV requests are not decoded into message structs. The codec hands the bytes of the request over
// as a Request; they are checked field by field (shape.go), against etcd's rules (check.go), and
// a write goes into the log as those very bytes. A Response is a list of buffers: header and stored
// KeyValues are appended to it as they come off the storage iterator, and gRPC writes the
// buffers to the connection. So a value is copied once on its way out, and never decoded.
// Watch responses hold events that the hub has encoded. They are appended to what the transport writes, and encoded for the codec only where
// they have to wait.
//
// All other services use the generated messages; the same codec passes them to gRPC's own.
//
// A request in a form that the fast checks do not know (unknown or repeated fields, fields out of
// order, deep nesting) is decoded by package proto, which also makes the text of the error when it is
// malformed, and encoded again without what is unknown. What goes into the log is therefore
// always in the order of field numbers, each field once.
//
// # The way of a watch
//
// Each stream of a client is a watch.Stream of the member's hub: one goroutine turns requests into calls, another writes what
// comes from it (watch.go). The hub has encoded the events, once for all watchers; a response is a head before them, small
// events copied, large ones shared (watchresponse.go). Streams that have very much to write leave the processors to
// others now and then (watchpace.go).
//
// # Words
//
//   - shape: what the checks need to know of a request; its slices alias the request's bytes.
//   - op: one operation of a transaction, or a transaction in it.
//   - chunk: a buffer that a part of a response stands in.
//   - budget: the bytes that all large responses together may hold, see budget.go.
//   - excess: what the process gives up meanwhile, and gives back afterwards, see excess.go.
//   - rest: the end of a large range's answer, which is made while the answer is sent, see gradual.go.
//
// # Who may do what
//
// A Gate stands before every request (auth_gate.go). rules (auth_rules.go) says of each method whether it is for everyone, for
// users, for root, or depends on the request; in the last case the handler asks, after its checks and before anything is
// proposed or read, with apply's walk through the request. A read is answered from a view that is no newer than
// the permissions it was allowed by.
//
// # Rules
//
//  1. A Request is valid until its handler returns: whoever wants to keep it, copies it.
//  2. Errors leave this package only through toStatus (errors.go), one table for all services.
//  3. Nothing a client sends is a reason to panic, and no panic is recovered: it would be a bug
//     of ours, and a member that goes on after one may answer wrongly.
//
// The package opens no listeners, reads no configuration and holds no state of the cluster. What it needs
// of a member it declares as small interfaces (kv.go, maintenance.go, cluster.go, watch.go).
package rpc
