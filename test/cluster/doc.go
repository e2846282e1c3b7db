// Package cluster tests several members as real processes on loopback, with the stock etcd client: what happens to clients
// when members are killed, stopped, cut off from each other, replaced or wiped.
//
// Words. A member is a data directory with its addresses, served by one process after the other. Between a member and all
// others stands a proxy of the test: it knows who dials by the header of the first request, so that any direction between
// two members can be cut or slowed down. A load is clients that write and read all the time and know what they must see.
//
// Rules are those of test/e2e: nothing waits for time to pass, processes are ended by their own id, and die with the test.
//
// By default each scenario runs once and short. With -long they run under load for the time given, one after the other:
//
//	go test ./test/cluster -run Soak -long 10m -timeout 30m
//
// With -other the last members of each cluster run another program with etcd's command line, so that members of both kinds
// make one cluster:
//
//	go test ./test/cluster -other /usr/bin/etcd -others 1
//
// The tests of mixed clusters need the programs of etcd 3.6 and 3.7, which test/etcd36 and test/etcd37 build, and are skipped
// without them:
//
//	go -C test/etcd37 build -o /tmp/etcd37 . && go test ./test/cluster -run Mixed -args -etcd37 /tmp/etcd37
package cluster
