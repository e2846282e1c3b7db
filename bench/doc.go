// Command bench measures servers of etcd's API side by side. It starts each of them fresh on loopback, has the same client code
// run the same scenario on each in turn, A B A B, and prints one table; the same figures go to report.json and plot.svg.
//
//	go run -C bench . --quick
//
// # Words
//
//   - A server is a program: ours, etcd37 (built from its Go module, test/etcd37), etcd34 (where it is installed).
//   - A shape is how it runs: one or three members, in the clear or with mutual TLS, on cores of its own or not.
//   - A scenario is what clients do; with its shape it is a line of the table. A turn is one run of it on one server, and a
//     round has one turn of each server. What one line leaves behind in the store is there in the next line of its group.
//
// # Rules
//
//  1. An operation that fails makes its line FAILED, with the first error; a failed line has no ratio.
//  2. A ratio is that of the two turns of one round; the table shows the median of the rounds, the lowest and the highest.
//  3. A metric whose median is behind is named as behind, also where the line's first metric is ahead.
//  4. CPU time and bytes written are taken once the servers have become quiet after a turn (or a bound has passed), so that work
//     that was put off is counted too.
//  5. Values do not compress, and keys are drawn from the same numbers for every server.
//  6. Every wait is bounded. When the time of the run is over, what has not run is shown as not run.
//  7. Servers are children of this process, run in directories of the run, and end with it.
package main
