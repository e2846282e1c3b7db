// Package apply is the replicated state machine: it turns the committed entries of the log, one after another, into
// changes of the state and results for whoever waits for them.
//
// # Words
//
// A command is the request that an entry holds, such as put or txn; its bytes are those of the request message that the
// client sent. The header beside it carries the request's id, by which the proposer finds its waiter. A group is a run of
// entries that is committed to the state as one batch. A body is a response message on the wire without its header
// (field 1): that part belongs to the member that answers.
//
// # Invariants
//
//  1. The state and the results depend on the log alone: not on a clock, chance, the environment, the order of a map, the way
//     the entries were cut into groups, or whether anyone waits. Everything here is part of the replicated format
//     (docs/format/entries.md): members of etcd decide alike.
//  2. An entry is applied wholly or not at all. All that can be refused is refused before anything is written; a
//     refused command is a result, never an error of Apply.
//  3. The batch of a group holds all effects of its entries and the applied index of the last. Results are given out
//     after it was committed and readers see it.
//  4. Entries are applied once, in order: those at or below the applied index are skipped, a gap is an error.
//
// # Requests without reflection
//
// The request messages of keys are parsed by hand into structs whose slices alias the entry (parse.go). The
// parsers take and refuse exactly what the protobuf library does; the rpc layer uses them too, so that what was checked and
// what is applied is one reading of the same bytes.
//
// # What it refuses
//
// Checks that etcd makes before it proposes (empty keys, duplicate keys, limits, unknown sort orders, who may compact) are made by
// the rpc layer, not here. What an entry's user may write is checked here, as in etcd, besides (auth_permit.go): the walk through
// a request is the same in both places. A command that this release does not know stops the member, since guessing would make members
// differ.
//
// # Concurrency
//
// The methods of Machine belong to one goroutine, the apply loop. The parsers and readers hold no state and may be used
// from anywhere.
package apply
