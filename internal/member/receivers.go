package member

import (
	"sync"
	"time"
)

const (
	// receiverTime is how long after its snapshot was sent a receiver may take to come for the log that follows it, as in etcd.
	receiverTime = 30 * time.Second
	// receiverBytes is how large the log may always become for receivers.
	receiverBytes = 1 << 30
)

// receiverLog is how large the log may become for receivers: as large as the state, since above that another snapshot costs less than
// the log. A state travels several times faster than a busy cluster writes its log (sendRestMax), so a receiver that keeps up with its
// sender is done before.
func receiverLog(stateBytes uint64) uint64 { return max(stateBytes, receiverBytes) }

// receivers are the members to which a snapshot is on its way, or has just arrived. They will ask for the log that follows it, which
// is therefore not cut: by the time a large state is built, the log would have been cut far above it, and the receiver would need
// another one, and so on.
type receivers struct {
	mu  sync.Mutex
	all map[uint64]receiver // by member; raft sends each of them one snapshot at a time
}

// receiver is what one of them needs: the log above index.
type receiver struct {
	index uint64
	until time.Time // zero while its snapshot is on the way
}

// begin notes that a snapshot of the entry at index is on its way to a member, in place of any before.
func (r *receivers) begin(to, index uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = make(map[uint64]receiver)
	}
	r.all[to] = receiver{index: index}
}

// end notes that begin's snapshot arrived, or did not.
func (r *receivers) end(to, index uint64, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if x, ok := r.all[to]; ok && x.index == index {
		x.until = now.Add(receiverTime)
		r.all[to] = x
	}
}

// need returns the entry above which receivers need the log, and whether there are any.
func (r *receivers) need(now time.Time) (index uint64, any bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for to, x := range r.all {
		switch {
		case !x.until.IsZero() && !now.Before(x.until):
			delete(r.all, to)
		case !any || x.index < index:
			index, any = x.index, true
		}
	}
	return index, any
}

// has says whether a member is one of them, or was when need was last asked for.
func (r *receivers) has(id uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.all[id]
	return ok
}
