package mvcc

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// ErrRetired is returned by a Store whose database is being replaced: the caller must
// take the new one.
var ErrRetired = errors.New("the store was replaced")

// gate counts who uses the database, so that it is closed after the last of them.
type gate struct {
	mu      sync.Mutex
	users   int
	views   uint64      // users so far that were views
	retired func()      // set once the store was replaced; called when users is 0
	closed  atomic.Bool // says that retired is set
}

func (g *gate) enter() error { return g.enterAs(0) }

// enterAs is enter for so many views.
func (g *gate) enterAs(views uint64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.retired != nil {
		return ErrRetired
	}
	g.users++
	g.views += views
	return nil
}

func (g *gate) leave() {
	g.mu.Lock()
	g.users--
	last := g.users == 0 && g.retired != nil
	g.mu.Unlock()
	if last {
		g.retired()
	}
}

// Hold keeps the database open until Release. It returns ErrRetired when it is too late.
func (s *Store) Hold() error { return s.gate.enter() }

// Release ends a Hold.
func (s *Store) Release() { s.gate.leave() }

// asked is a number that changes with whatever is asked of the store.
func (s *Store) asked() uint64 {
	now := s.now.Load()
	return s.Views() + now.index + uint64(now.revision)
}

// Views returns how many views were opened so far, or reads answered from memory instead. What the member does for itself is not among them.
func (s *Store) Views() uint64 {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	return s.gate.views + s.newest.answered.Value()
}

// Retire refuses new users of the store with ErrRetired and calls done, once, when the
// last one has gone, in whichever goroutine that is. It must be called at most once.
func (s *Store) Retire(done func()) {
	s.idle.end()
	s.gate.mu.Lock()
	s.gate.retired = done
	s.gate.closed.Store(true)
	idle := s.gate.users == 0
	s.gate.mu.Unlock()
	if idle {
		done()
	}
}

// DurableApplied reads which log entry's effect a power cut now would leave as the
// last one; 0 when none.
func DurableApplied(db *storage.DB) (index uint64, err error) {
	val, found, err := db.GetDurable(metaKey(metaApplied))
	if err != nil || !found {
		return 0, err
	}
	var n [3]uint64
	if err := decodeNumbers(val, n[:]); err != nil {
		return 0, err
	}
	return n[0], nil
}
