package watch

import (
	"sync"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// inbox holds what was published and not distributed yet. Its lock is held for a few instructions, and nothing else is
// locked meanwhile.
type inbox struct {
	mu       sync.Mutex
	groups   [][]mvcc.Event
	events   int
	bytes    int
	bytesMax int
	lostTo   int64 // when not 0, revisions up to this one are not here
	closed   bool
}

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
	b.groups = append(b.groups, group)
	b.events += len(group)
	b.bytes += bytes
}

// lose says that nothing is known of the revisions up to rev.
func (b *inbox) lose(rev int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(max(rev, b.lostTo))
}

func (b *inbox) drop(rev int64) {
	b.groups, b.events, b.bytes, b.lostTo = nil, 0, 0, rev
}

// take empties the inbox.
func (b *inbox) take() (groups [][]mvcc.Event, lostTo int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	groups, lostTo = b.groups, b.lostTo
	b.drop(0)
	return groups, lostTo
}

// waiting returns the number of events in it.
func (b *inbox) waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.events
}

// close refuses all further groups.
func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(0)
	b.closed = true
}
