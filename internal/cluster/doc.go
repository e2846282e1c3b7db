// Package cluster knows who the members of a cluster are: their ids, names and
// addresses, which are learners, who was removed, and the cluster version.
//
// A Membership is what has been applied here. Apply alone changes it, entry by entry, with
// records in the entry's own batch; readers see the last committed one, without
// locks. A Founding is what a cluster starts from.
//
// Ids, records and errors are etcd's, since members of both kinds may share a log.
// The package reads no clock and no random source.
package cluster
