package mvcc

import (
	"sync"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// idleMax bounds the iterators that wait for another view.
const idleMax = 16

// idle keeps the iterators of views that were closed, for views of the same published state: to open one costs about as much as
// to read a key with it, and between two groups of entries there are many reads.
//
// An iterator is opened after its state was published, so that it shows that state or a newer one, which is all a view asks of it;
// a view takes it only while that state is still the published one. Whatever waits keeps memory and files from being given back, so
// after the while that KeepIterators speaks of nothing waits any more.
type idle struct {
	mu      sync.Mutex
	later   func(f func()) // nil keeps nothing
	of      *published     // what those that wait were opened for
	waiting []*storage.Iterator
	called  bool // later will call rest
	ended   bool
}

// KeepIterators lets iterators be used again. later calls a function from another goroutine after a while, some tens of
// milliseconds; then those are closed that nobody has taken by then. It must be called before the store is used, and by an owner who
// ends the store by Retire.
func (s *Store) KeepIterators(later func(f func())) { s.idle.later = later }

// take returns an iterator that may be used for p, or nil.
func (i *idle) take(p *published) *storage.Iterator {
	if i.later == nil {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	last := len(i.waiting) - 1
	if last < 0 || i.of != p {
		return nil
	}
	it := i.waiting[last]
	i.waiting = i.waiting[:last]
	return it
}

// put takes in the iterator of a view of p and tells whether it did. REQUIRES: it has the bounds that it was opened with; the
// gate is entered.
func (i *idle) put(it *storage.Iterator, p *published) bool {
	if i.later == nil || it.Error() != nil {
		return false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ended {
		return false
	}
	if i.of != p {
		i.close()
		i.of = p
	}
	if len(i.waiting) == idleMax {
		return false
	}
	i.waiting = append(i.waiting, it)
	if !i.called {
		i.called = true
		i.later(i.rest)
	}
	return true
}

// rest closes all that wait.
func (i *idle) rest() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.called = false
	i.close()
}

// end closes all that wait, and nothing waits from then on.
func (i *idle) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ended = true
	i.close()
}

// close REQUIRES: mu is held, so that who retires the store does not go on before the last one is closed.
func (i *idle) close() {
	for n, it := range i.waiting {
		_ = it.Close() // its reads had no error, and were answered
		i.waiting[n] = nil
	}
	i.waiting, i.of = i.waiting[:0], nil
}
