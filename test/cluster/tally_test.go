package cluster

import "sync"

// tally is how much was checked.
type tally struct {
	ops, unknown, groups, undecided, events, breaks, marks, leases, renewals int
}

// total is that of all workloads.
var total tallies

// tallies sums up.
type tallies struct {
	mu        sync.Mutex
	sum       tally
	workloads int
}

func (t *tallies) add(x tally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.workloads++
	t.sum.ops += x.ops
	t.sum.unknown += x.unknown
	t.sum.groups += x.groups
	t.sum.undecided += x.undecided
	t.sum.events += x.events
	t.sum.breaks += x.breaks
	t.sum.marks += x.marks
	t.sum.leases += x.leases
	t.sum.renewals += x.renewals
}
