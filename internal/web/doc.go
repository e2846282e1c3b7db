// Package web is what a member serves over plain HTTP: its version and its health, the JSON API, and a way to serve HTTP and gRPC
// on one address.
//
// # Words
//
// The split is one listener taken apart into two, by the first bytes that a client sends: a client that begins with the
// preface of HTTP/2 is taken for a gRPC client, everyone else for one of HTTP/1.1. A pending connection
// is one that has not sent enough to tell.
//
// The gateway is the JSON API at /v3/…: HTTP requests, and websockets, that become calls of the member's own gRPC services over a
// connection inside the process. So whatever holds for a gRPC client (checks, permissions, limits) holds for a client of the
// gateway, with one exception: the certificate that it shows is not passed on, so it names no user, as in etcd.
//
// # Rules
//
//  1. The answers, with headers and spelling, are etcd's: programs and people read them.
//  2. A connection that says nothing costs a file and a goroutine, for a bounded time; the number of them is bounded.
//  3. After the first bytes a split connection costs nothing: reads go to the connection itself.
//
// The package decides nothing about the state of the member: it is told by functions.
package web
