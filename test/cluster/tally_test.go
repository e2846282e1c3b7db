package cluster

import (
	"fmt"
	"sync"
)

// tally is how much was checked.
type tally struct {
	ops, unknown, groups, undecided, events, breaks, marks, leases, renewals int
	compactions, glimpses, refused, reads                                    int // of the past
	hashes, tight, noSpace                                                   int
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
	t.sum.compactions += x.compactions
	t.sum.glimpses += x.glimpses
	t.sum.refused += x.refused
	t.sum.reads += x.reads
	t.sum.hashes += x.hashes
	t.sum.tight += x.tight
	t.sum.noSpace += x.noSpace
}

// String is the sum for people.
func (t *tallies) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sum
	return fmt.Sprintf("%d histories: %d operations, %d without an answer, in %d groups, %d undecided; %d events, %d bookmarks, %d watches resumed; %d leases, %d renewals; "+
		"%d compactions, %d reads and %d watches of the past, %d watches told that it is compacted; "+
		"%d comparisons of snapshots' hashes; %d times without space, %d operations refused",
		t.workloads, s.ops, s.unknown, s.groups, s.undecided, s.events, s.marks, s.breaks, s.leases, s.renewals,
		s.compactions, s.reads, s.glimpses, s.refused, s.hashes, s.tight, s.noSpace)
}
