package lease

import (
	"math"
	"time"

	"github.com/ashlar-kv/ashlar/internal/invariant"
)

// fanout is the number of children of a node in the heap: with four, half as many levels as with two, and a node's
// children stand in one cache line.
const fanout = 4

// slotsKept is how many slots an empty Deadlines keeps for later.
const slotsKept = 1 << 10

// Deadlines tells which of many leases ends first. Set and Remove take time logarithmic in their number, Get and
// First constant time; a lease takes about 60 bytes. Times are durations since a moment that the caller chooses.
//
// The zero value is empty and ready for use. It is not safe for concurrent use.
//
// Each lease has a slot that stays the same while it is there. The heap orders the numbers of slots, so that moving one
// touches two arrays and never the map.
type Deadlines struct {
	slots []slot
	free  []int32         // slots not in use
	heap  []int32         // slots by time, the earliest first
	byID  map[int64]int32 // the slot of a lease
}

type slot struct {
	id  int64
	at  time.Duration
	pos int32 // in heap
}

// Len returns the number of leases.
func (d *Deadlines) Len() int { return len(d.heap) }

// Set adds a lease, or moves it when it is there.
func (d *Deadlines) Set(id int64, at time.Duration) {
	if n, ok := d.byID[id]; ok {
		s := &d.slots[n]
		s.at = at
		d.up(s.pos)
		d.down(s.pos)
		return
	}
	if d.byID == nil {
		d.byID = make(map[int64]int32)
	}
	n := d.take()
	pos := int32(len(d.heap))
	d.slots[n] = slot{id, at, pos}
	d.byID[id] = n
	d.heap = append(d.heap, n)
	d.up(pos)
}

// take returns a slot that is not in use.
func (d *Deadlines) take() int32 {
	if last := len(d.free) - 1; last >= 0 {
		n := d.free[last]
		d.free = d.free[:last]
		return n
	}
	invariant.Check(len(d.slots) < math.MaxInt32, "%d leases", len(d.slots))
	d.slots = append(d.slots, slot{})
	return int32(len(d.slots) - 1)
}

// Get returns a lease's time.
func (d *Deadlines) Get(id int64) (at time.Duration, ok bool) {
	n, ok := d.byID[id]
	if !ok {
		return 0, false
	}
	return d.slots[n].at, true
}

// First returns the lease that ends first.
func (d *Deadlines) First() (id int64, at time.Duration, ok bool) {
	if len(d.heap) == 0 {
		return 0, 0, false
	}
	s := &d.slots[d.heap[0]]
	return s.id, s.at, true
}

// Remove takes a lease out and reports whether it was there.
func (d *Deadlines) Remove(id int64) bool {
	n, ok := d.byID[id]
	if !ok {
		return false
	}
	delete(d.byID, id)
	if len(d.heap) == 1 && len(d.slots) > slotsKept {
		*d = Deadlines{}
		return true
	}
	pos, last := d.slots[n].pos, int32(len(d.heap)-1)
	moved := d.heap[last]
	d.heap = d.heap[:last]
	d.free = append(d.free, n)
	if pos != last {
		d.place(moved, pos)
		d.up(pos)
		d.down(d.slots[moved].pos)
	}
	return true
}

// All calls yield with each lease, in no order, until it returns false.
func (d *Deadlines) All(yield func(id int64, at time.Duration) bool) {
	for _, n := range d.heap {
		if s := &d.slots[n]; !yield(s.id, s.at) {
			return
		}
	}
}

func (d *Deadlines) place(n, pos int32) {
	d.heap[pos] = n
	d.slots[n].pos = pos
}

// up moves what stands at pos towards the root while it is earlier than its parent.
func (d *Deadlines) up(pos int32) {
	n := d.heap[pos]
	at := d.slots[n].at
	for pos > 0 {
		parent := (pos - 1) / fanout
		if d.slots[d.heap[parent]].at <= at {
			break
		}
		d.place(d.heap[parent], pos)
		pos = parent
	}
	d.place(n, pos)
}

// down moves what stands at pos away from the root while a child is earlier.
func (d *Deadlines) down(pos int32) {
	n := d.heap[pos]
	at := d.slots[n].at
	for {
		earliest, first := pos, at
		for child := fanout*int(pos) + 1; child <= fanout*int(pos)+fanout && child < len(d.heap); child++ {
			if c := d.slots[d.heap[child]].at; c < first {
				earliest, first = int32(child), c
			}
		}
		if earliest == pos {
			break
		}
		d.place(d.heap[earliest], pos)
		pos = earliest
	}
	d.place(n, pos)
}
