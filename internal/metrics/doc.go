// Package metrics tells what a member counts in the words of Prometheus: every name that etcd 3.7 has, with the same labels, types and
// buckets, and those of our own, which begin with ashlar_. docs/metrics.md lists them, and where a figure means something else than
// in etcd.
//
// # How it works
//
// Each package of the member counts for itself (internal/measure). A collector reads all of it when somebody asks for the metrics, and
// makes them anew each time: between two scrapes it costs nothing and holds nothing. A metric is one row of a table: its name, its
// help, its labels, and a function that reads it from a view. A view is what costs something to find out, found out once for a
// scrape.
//
// # Rules
//
//  1. No figure is made up. What Ashlar does not have is the nearest true figure, and the help says which, or it is zero for ever.
//  2. The number of series is bounded: labels are methods, status codes, members, levels, and of what clients choose only a fixed
//     number (versions of the API, prefixes of keys).
//  3. There is no global registry: several members in a process do not see each other's.
package metrics
