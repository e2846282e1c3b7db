// Package observe tests what a running cluster tells of itself: that its metrics are those of etcd, that their figures are true,
// that the dashboard and the alert rules in deploy/ ask for nothing that is not there, and which address serves what.
//
// testdata/etcd-3.7.1.txt lists the metrics of etcd 3.7.1, as read off a cluster of it.
package observe
