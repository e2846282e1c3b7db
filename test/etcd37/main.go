// Command etcd37 is the server of etcd 3.7.1, built from its Go module: the other kind of member in the tests of mixed
// clusters. It is a module of its own, so that nothing of Ashlar depends on it.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
