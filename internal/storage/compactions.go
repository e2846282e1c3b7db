package storage

import (
	"sync"

	"github.com/ashlar-kv/ashlar/internal/pacing"
	"github.com/cockroachdb/pebble/v2"
)

// compactionScheduler lets as many compactions run beside each other as the options allow, and each rest while clients ask for something.
//
// The tables of a compaction are written by a goroutine of their own, and one that rests in pacedFile.Write lets the compaction go on reading, merging and
// compressing until what waits to be written is too much. The grant of a compaction is called by the compaction's own goroutine after each 128 records.
//
// Pebble calls TrySchedule and UpdateGetAllowedWithoutPermission with its locks held.
type compactionScheduler struct {
	pacer *pacer
	db    pebble.DBForCompaction // set by Register, before any other call

	grants  sync.WaitGroup // calls of grant under way
	mu      sync.Mutex     // guards what follows; nothing but GetAllowedWithoutPermission, which takes no lock, is called with it held
	running int
	refused bool // a compaction may wait since there was no place
	closed  bool
}

// Register implements pebble.CompactionScheduler.
func (s *compactionScheduler) Register(_ int, db pebble.DBForCompaction) { s.db = db }

// Unregister implements pebble.CompactionScheduler.
func (s *compactionScheduler) Unregister() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.grants.Wait()
}

// TrySchedule implements pebble.CompactionScheduler. Pebble remembers that it was refused, and asks no more until it was granted one.
func (s *compactionScheduler) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	if !s.claim() {
		return false, nil
	}
	return true, &compactionGrant{scheduler: s}
}

// UpdateGetAllowedWithoutPermission implements pebble.CompactionScheduler.
func (s *compactionScheduler) UpdateGetAllowedWithoutPermission() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused && !s.closed {
		go s.grant()
	}
}

// claim takes a place, if there is one. One at least there always is: what ends in it has those granted that were refused.
func (s *compactionScheduler) claim() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = s.closed || s.running >= max(1, s.db.GetAllowedWithoutPermission())
	if !s.refused {
		s.running++
	}
	return !s.refused
}

// release gives a place back, and says whether a compaction may wait for it.
func (s *compactionScheduler) release() (refused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	return s.refused
}

// grant begins the compactions that were refused and for which there is a place now. No lock of Pebble may be held.
func (s *compactionScheduler) grant() {
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.grants.Add(1)
	}
	s.mu.Unlock()
	if closed {
		return
	}
	defer s.grants.Done()
	for s.claim() && (s.db.Schedule(&compactionGrant{scheduler: s}) || s.release()) {
	}
}

// compactionGrant is one compaction that was let run. It belongs to that one's goroutine.
type compactionGrant struct {
	scheduler *compactionScheduler
	stints    *pacing.Stints
}

// Started implements pebble.CompactionGrantHandle.
func (g *compactionGrant) Started() { g.stints = g.scheduler.pacer.stints() }

// MeasureCPU implements pebble.CompactionGrantHandle. It is called from other goroutines, too.
func (g *compactionGrant) MeasureCPU(pebble.CompactionGoroutineKind) {}

// CumulativeStats implements pebble.CompactionGrantHandle, which lets it block to pace the compaction.
func (g *compactionGrant) CumulativeStats(pebble.CompactionGrantHandleStats) {
	g.stints.PauseFor(g.scheduler.pacer.parts().compaction)
}

// Done implements pebble.CompactionGrantHandle.
func (g *compactionGrant) Done() {
	if g.scheduler.release() {
		g.scheduler.grant()
	}
}
