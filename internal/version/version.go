// Package version holds the two versions that Ashlar announces: its own, and the level of etcd whose
// protocol and behaviour it speaks. Clients decide by the second; people read the first.
//
// It is a leaf: everything may import it, it imports nothing of ours.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

const (
	// Ashlar is the version of this program.
	Ashlar = "0.1.0-dev"
	// Etcd is the etcd release whose API and behaviour Ashlar speaks. Status and /version report it.
	Etcd = "3.7.1"
	// Cluster is the cluster version that a new cluster of such members agrees on.
	Cluster = "3.7.0"
)

// Banner returns the text of `ashlar version`: one fact a line, with a final newline.
func Banner() string {
	return fmt.Sprintf("ashlar Version: %s\netcd level: %s\nGit SHA: %s\nGo Version: %s\nGo OS/Arch: %s/%s\n",
		Ashlar, Etcd, commit(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// EtcdBanner returns what `etcd --version` prints, for use under the name etcd.
func EtcdBanner() string {
	return fmt.Sprintf("etcd Version: %s\nGit SHA: %s\nGo Version: %s\nGo OS/Arch: %s/%s\n",
		Etcd, commit(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// commit returns the short hash of the commit this program was built from.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "not known"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 9 {
			return s.Value[:9]
		}
	}
	return "not known"
}
