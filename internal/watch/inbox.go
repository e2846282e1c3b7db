package watch

import (
	"sync"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// inbox holds what was published and not distributed yet. Its lock is held for a few instructions for each event, and nothing else is
// locked meanwhile. It copies the events into slices of its own, and leaves what they refer to where it is.
type inbox struct {
	mu       sync.Mutex
	events   []mvcc.Event
	spare    []mvcc.Event // memory of some that were distributed
	bytes    int
	bytesMax int
	lostTo   int64 // when not 0, revisions up to this one are not here
	closed   bool
}

// inboxSpareMax is for how many events memory is kept.
const inboxSpareMax = 2048

// put takes in a group. Above the bound it drops all there is: who needs it reads it from history.
func (b *inbox) put(group []mvcc.Event) {
	bytes := 0
	for i := range group {
		bytes += eventOverhead + len(group[i].Key)
		if kv, err := group[i].Load(); err == nil {
			bytes += len(kv.Raw())
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	if b.bytes+bytes > b.bytesMax {
		b.drop(group[len(group)-1].Rev.Main)
		return
	}
	if b.events == nil {
		b.events, b.spare = b.spare, nil
	}
	b.events = append(b.events, group...)
	b.bytes += bytes
}

// lose says that nothing is known of the revisions up to rev.
func (b *inbox) lose(rev int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(max(rev, b.lostTo))
}

func (b *inbox) drop(rev int64) {
	b.events, b.bytes, b.lostTo = nil, 0, rev
}

// take empties the inbox. The events are the caller's until giveBack.
func (b *inbox) take() (events []mvcc.Event, lostTo int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	events, lostTo = b.events, b.lostTo
	b.drop(0)
	return events, lostTo
}

// giveBack takes the memory of events back that take has returned. REQUIRES: nobody has the slice.
func (b *inbox) giveBack(events []mvcc.Event) {
	if cap(events) == 0 || cap(events) > inboxSpareMax {
		return
	}
	clear(events)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spare = events[:0]
}

// waiting returns the number of events in it.
func (b *inbox) waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.events)
}

// close refuses all further groups.
func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(0)
	b.closed = true
}
