// Package e2e tests the built program from outside: real processes, real sockets, a real disk, the stock etcd client.
//
// What only a process can show stands here: that SIGKILL under load loses nothing that was acknowledged, that a full disk ends
// the member instead of its promises, that the real data of a Kubernetes cluster comes back as it went in, what the command line
// refuses, and what a request costs from socket to disk (the benchmarks). What a simulated filesystem or clock can show
// belongs to the package concerned or to the simulator, where it is faster and can be repeated.
//
// Words. A member is a data directory with its addresses; it outlives the processes that serve it, one after the other.
// A server is one process.
//
// Rules. Everything listens on loopback, on ports asked for anew. Nothing waits for time to pass: a wait is for a line of the
// server's log, for its end, or for an answer. Processes are ended by their own id, and are killed by the kernel when the
// test process dies.
//
// By default the program is built once from cmd/ashlar. With -server the same tests run against another program with
// etcd's command line, so that a doubtful expectation can be tried on etcd itself:
//
//	go test ./test/e2e -server /usr/bin/etcd
//
// Where etcd is meant to differ from us (exit statuses, a second process on one directory) the test says so and expects less.
package e2e
