// Package ctl is the client's command line: `ashlar ctl`, and etcdctl when the program is called by that name.
//
// It speaks the public API through go.etcd.io/etcd/client/v3, to Ashlar and to etcd alike, and knows nothing of a
// member's inside. Scripts depend on what it prints, so for every command that etcdctl has, the output to a pipe,
// the exit status and the order of checks are etcdctl's, to the byte. What etcdctl has not (own.go) is there only as
// `ashlar ctl`, never under the name etcdctl.
//
// # Words
//
//   - Process: what the operating system hands over: arguments, environment, streams.
//   - Settings: the global flags, and the ETCDCTL_ variables that stand for them (settings.go holds the one table).
//   - A session is one run of one command: process, settings, printer, and the client once it is needed.
//   - A reply is one answer of the cluster in every form it can be printed in (reply.go). A printer picks a form:
//     simple, fields, json, protobuf or table. A form that a reply lacks is a failure with status 4.
//   - A failure is an error with the exit status it ends the program with (failure.go).
//
// # How a command is built
//
// One file a command, or a group of them. A function returns its *cobra.Command, whose run checks the arguments,
// connects, asks, and prints a reply. Arguments are checked before anything is sent.
//
// # Rules
//
//  1. No command ends the process or reads the process's own environment and streams: Run gets them and returns the
//     exit status, so that tests run commands in their own process.
//  2. Replies go to standard output, everything else (warnings, logs, usage after a mistake) to standard error.
//  3. A format that is not known fails before anything is sent; one that only this reply lacks fails after, as in
//     etcdctl.
//  4. On a terminal a command may be kinder (terminal.go): colours, tables, progress, a question before what cannot be
//     undone. A pipe never gets any of it.
//  5. An own command reads a range by scan, a page at a time as of one revision: memory does not grow with the store.
//  6. Every request has the time limit of --command-timeout, also those that etcdctl lets hang.
//
// A session is used by one goroutine; commands that start others say so.
package ctl
