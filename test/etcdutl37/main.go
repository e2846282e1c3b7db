// Command etcdutl37 is the snapshot commands of etcdutl 3.7.1, built from etcd's Go module: the tests let it restore what was saved
// from Ashlar. It is a module of its own, so that nothing of Ashlar depends on it.
package main

import (
	"os"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/etcdutl/v3/etcdutl"
)

func main() {
	root := &cobra.Command{Use: "etcdutl"}
	root.PersistentFlags().StringVarP(&etcdutl.OutputFormat, "write-out", "w", "simple", "output format")
	root.AddCommand(etcdutl.NewSnapshotCommand(), etcdutl.NewHashKVCommand())
	if root.Execute() != nil {
		os.Exit(1)
	}
}
