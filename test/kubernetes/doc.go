// Package kubernetes runs the kube-apiserver of a released Kubernetes on a cluster of Ashlar's members, of which one after the
// other is killed, and looks whether what clients of the apiserver were told is true. The apiserver is the test program itself, built from its Go module. It is
// a module of its own, so that nothing of Ashlar depends on it, and nothing of Ashlar changes what the apiserver is built from.
//
//	go -C test/kubernetes test ./...                                # some ten minutes to build on two cores, one to run
//	go -C test/kubernetes test ./... -args -server /path/to/etcd    # the same on etcd
package kubernetes
