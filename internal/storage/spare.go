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

// freeKept frees the memtable that a database keeps, and says whether there was one. nil keeps it: Pebble has no option for that.
var freeKept func(*pebble.DB) bool

// GiveBackMemTables has databases that are opened afterwards call free, from any goroutine, to free the memtable that Pebble keeps after a flush for the
// next one; it says whether there was one. To be called before the first database is opened.
func GiveBackMemTables(free func(*pebble.DB) bool) { freeKept = free }

// spareMemTable gives back the memory of the memtable that Pebble keeps after a flush, once it has not been used for a while.
type spareMemTable struct {
	clock clock.Clock
	free  func(*pebble.DB) bool // may be nil

	mu    sync.Mutex // guards what follows; of Pebble's locks only its cache's are taken while it is held
	db    *pebble.DB // nil before begin and after end
	timer clock.Timer
	last  time.Time // of a flush
	tries int       // that are left
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
	if s.db == nil || s.free == nil {
		return
	}
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

func (s *spareMemTable) giveBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil || s.free(s.db) {
		return
	}
	if s.tries--; s.tries > 0 {
		s.timer.Reset(spareEvery)
	}
}

// end is called before Pebble is closed, which looks whether all memory was given back.
func (s *spareMemTable) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.db = nil
	if s.timer != nil {
		s.timer.Stop()
	}
}
