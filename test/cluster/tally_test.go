package cluster

import (
	"fmt"
	"sync"
)

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

// String is the sum for people.
func (t *tallies) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sum
	return fmt.Sprintf("%d histories: %d operations, %d without an answer, in %d groups, %d undecided; %d events, %d bookmarks, %d watches resumed; %d leases, %d renewals",
		t.workloads, s.ops, s.unknown, s.groups, s.undecided, s.events, s.marks, s.breaks, s.leases, s.renewals)
}
