package storage

import (
	"sync"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/cockroachdb/pebble/v2"
)

const (
	// spareFor is how long Pebble may keep a memtable for the next one: twice the memtables that are written to are too many for a small store.
	spareFor = 200 * time.Millisecond
	// Where flushes follow each other faster than this, values are large, and new pages for each memtable would be a tenth of the CPU of a put: there
	// Pebble may keep it until it uses it.
	spareOften = 600 * time.Millisecond
	// Views hold what they see for a while after it was flushed.
	spareEvery = time.Second
	spareTries = 10
)

// giveBackKept gives back the memory of the memtable that a database keeps. It says how many bytes of what it still keeps have no memory then, and whether
// it kept one. nil leaves it as it is: Pebble has no option for that.
var giveBackKept func(*pebble.DB) (given int64, kept bool)

// GiveBackMemTables has databases that are opened afterwards call give, from any goroutine, to give back the memory of the memtable that Pebble keeps after a
// flush for the next one; it says how many bytes of one that is kept all the same have no memory then, and whether there was one. To be called before the
// first database is opened.
func GiveBackMemTables(give func(*pebble.DB) (given int64, kept bool)) { giveBackKept = give }

// spareMemTable gives back the memory of the memtable that Pebble keeps after a flush, once it has not been used for a while.
type spareMemTable struct {
	clock clock.Clock
	give  func(*pebble.DB) (given int64, kept bool) // may be nil
	work  sync.Mutex                                // held while memory is given back, before mu

	mu    sync.Mutex // guards what follows; nothing is called while it is held but the clock
	db    *pebble.DB // nil before begin and after end
	timer clock.Timer
	last  time.Time // of a flush
	tries int       // that are left
	given int64     // of what is kept
}

// begin is called when the database is open: before, nothing is flushed.
func (s *spareMemTable) begin(db *pebble.DB) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.db = db
}

// flushed is called after each flush, with locks of Pebble held.
func (s *spareMemTable) flushed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil || s.give == nil {
		return
	}
	s.given = 0 // what was kept is written to
	now, wait := s.clock.Now(), spareFor
	if now.Sub(s.last) < spareOften {
		wait = spareOften
	}
	s.last, s.tries = now, spareTries
	if s.timer == nil {
		s.timer = s.clock.AfterFunc(wait, s.giveBack)
	} else {
		s.timer.Reset(wait)
	}
}

// giveBack takes some ms, in which a flush may end: flushed does not wait for it, and the next one sees to what is kept then.
func (s *spareMemTable) giveBack() {
	s.work.Lock()
	defer s.work.Unlock()
	db, flush := s.now()
	if db == nil {
		return
	}
	given, kept := s.give(db)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil || s.last != flush {
		return
	}
	if s.given = given; kept {
		return
	}
	if s.tries--; s.tries > 0 {
		s.timer.Reset(spareEvery)
	}
}

// now returns the database and when its last flush was.
func (s *spareMemTable) now() (db *pebble.DB, flush time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.db, s.last
}

// withoutMemory is how many of the bytes that are kept have no memory.
func (s *spareMemTable) withoutMemory() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.given
}

// end is called before Pebble is closed, which looks whether all memory was given back.
func (s *spareMemTable) end() {
	s.work.Lock() // one that goes on ends first
	defer s.work.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.db = nil
	if s.timer != nil {
		s.timer.Stop()
	}
}
