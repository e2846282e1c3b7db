// Package measure counts what happens on the paths of requests, for metrics.
//
// Every package keeps the counters and histograms of its own work as plain fields; one collector (internal/metrics) reads them
// when somebody asks. So whoever measures knows no names of metrics, no labels and no library, and what is measured costs a few
// atomic additions: nothing is looked up, allocated or locked.
//
// Words: an observation is one value put into a histogram. Durations are in nanoseconds until they are told.
//
// All types are safe for concurrent use; their zero values are only usable where it is said. A reading is not one instant:
// fields read while somebody adds may be one observation apart.
package measure
