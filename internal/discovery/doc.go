// Package discovery finds the members of a cluster before there is one to ask.
//
// # Two ways
//
//   - DNS: SRV records of a domain name the members (Servers) or the addresses for clients (Clients).
//
//   - A registry: another cluster, the discovery service, in which each founding member of a new cluster writes down who it
//     is, and waits until as many have done so as the cluster is to have (Join). Keys and values are etcd's:
//
//     /_etcd/registry/TOKEN/_config/size      how many members found the cluster; an operator writes it
//     /_etcd/registry/TOKEN/members/ID        NAME=URL,NAME=URL…, written by the member with that id
//
// # Rules
//
//  1. The first members in the order of registering found the cluster, all of them the same ones. One that comes too late gets
//     ErrFullCluster, and one that registers again is the one it was.
//  2. A registry that does not answer is asked again, ever more slowly, until the context ends: a cluster that comes up
//     as a whole must not fail because its parts start in some order.
//  3. What a registry holds is not trusted: sizes are bounded and addresses are parsed.
//
// It keeps no state, opens no files but certificates, and knows no member: ids are texts that it is given.
package discovery
