package storage

import (
	"reflect"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

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

// spareMemTable gives back the memory of the memtable that Pebble keeps after a flush, once it has not been used for a while. Pebble knows no
// option for that, but its Close does the same.
type spareMemTable struct {
	clock clock.Clock

	mu    sync.Mutex // guards what follows; no lock of Pebble is taken while it is held
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
	if s.db == nil {
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
	if s.db == nil {
		return
	}
	kept := (*unsafe.Pointer)(unsafe.Add(unsafe.Pointer(s.db), keptMemTable))
	if mem := atomic.SwapPointer(kept, nil); mem != nil {
		freeMemTable(s.db, mem)
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

// keptMemTable is where a pebble.DB has the pointer to the memtable that it keeps.
var keptMemTable = func() uintptr {
	const name = "memTableRecycle"
	f, ok := reflect.TypeFor[pebble.DB]().FieldByName(name)
	if !ok || f.Type.Size() != unsafe.Sizeof(unsafe.Pointer(nil)) {
		panic("storage: pebble.DB has no pointer " + name)
	}
	return f.Offset
}()

//go:linkname freeMemTable github.com/cockroachdb/pebble/v2.(*DB).freeMemTable
func freeMemTable(db *pebble.DB, mem unsafe.Pointer)
