package storage

import (
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/pacing"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// What Pebble calls the writes that rest.
const (
	compactionCategory vfs.DiskWriteCategory = "pebble-compaction"
	flushCategory      vfs.DiskWriteCategory = "pebble-memtable-flush"
)

const (
	// writeBackBytes is after how much the system is told to write a table to the disk: a sync of the log waits for what was handed to the disk
	// before it, and Pebble leaves the last MiB of each table to the table's sync.
	writeBackBytes = 128 << 10
	// shrinkBytes is how much of a removed table is given back at once.
	shrinkBytes = 1 << 20
	// lookEvery is how often the shape of the database is looked at while there is work.
	lookEvery = 100 * time.Millisecond
	// The rests of a compaction become shorter once the newest level has more sublevels than where its compaction begins (stateOptions), and
	// end at hurriedSublevels, long before writes stop; so they do when what is to be rewritten is more than hurriedDebtBytes.
	calmSublevels    = 4
	hurriedSublevels = 16
	hurriedDebtBytes = 4 << 30
	// A flush rests while no other memtable waits for one: there is the one that is flushed and the one that is written.
	calmMemTables = 2
	// Nor does it while what is put beside it would fill a memtable in less than calmFill, about what a flush with rests takes, once an eighth of one
	// (hurriedPart) was put. Pebble flushes all memtables that wait together and frees none before the end: three that gathered behind a flush that rested
	// make the next one so long that writes stop for most of it.
	calmFill    = 500 * time.Millisecond
	hurriedPart = 8
	// What is put beside a flush may take this part of the room that there is when it begins at once, and the rest as the flush goes on.
	roomAhead = 0.25
	// admitMax bounds how long a batch waits for a flush to go on: where one does so no more, Pebble stops writes, which is watched.
	admitMax = 20 * time.Millisecond
)

// pacer makes flushes and compactions rest while clients ask for something, as pacing.Stints do. They hold no lock of Pebble while they write
// their tables, so that nobody waits for one that rests but for the room that it makes; and before that is needed it does not rest.
type pacer struct {
	clock clock.Clock
	stop  chan struct{} // closed when the database is being closed
	cut   chan struct{} // closed when Pebble is

	memTableBytes uint64
	put           atomic.Uint64               // bytes of batches, since the database was opened
	flush         atomic.Pointer[flushBeside] // the newest flush; nil before the first
	flushed       uint64                      // of put; only flushBegins uses it

	db     atomic.Pointer[pebble.DB] // nil until it is open
	mu     sync.Mutex                // guards what follows; no lock of Pebble is held when it is taken
	demand *pacing.Demand
	next   time.Time // of a look
	part   restParts
}

// restParts are the parts of their length that rests have.
type restParts struct{ compaction, flush float64 }

// flushBeside is a flush and the room for what is put beside it.
type flushBeside struct {
	at    time.Time // when it began
	put   uint64    // until then
	bytes uint64    // of its memtables
	room  uint64    // that was left then

	written atomic.Uint64 // of the tables, allWritten once it has ended
	waited  atomic.Bool   // a batch has waited for it to go on
	need    atomic.Uint64 // of written, for the batch that waits; 0 if none does
	wake    chan struct{} // gets a token when it was written
}

const allWritten = math.MaxUint64

// needs returns how much of a flush must have been written when so much was put.
func (f *flushBeside) needs(put uint64) uint64 {
	if put-f.put == 0 {
		return 0
	}
	taken := float64(put-f.put) / float64(f.room)
	part := (taken - roomAhead) / (1 - roomAhead)
	return uint64(max(0, min(1, part)) * float64(f.bytes))
}

// newPacer returns nil, which paces nothing, when nobody says what is asked.
func newPacer(c clock.Clock, asked func() uint64, memTableBytes uint64) *pacer {
	if asked == nil {
		return nil
	}
	return &pacer{clock: c, stop: make(chan struct{}), cut: make(chan struct{}), memTableBytes: memTableBytes, demand: pacing.NewDemand(asked, c.Now())}
}

// begin is called when the database is open: before, nobody asks it for anything.
func (p *pacer) begin(db *pebble.DB) {
	if p != nil {
		p.db.Store(db)
	}
}

// committed is called with the length of each batch.
func (p *pacer) committed(n int) {
	if p != nil {
		p.put.Add(uint64(n))
	}
}

// flushBegins is called with the bytes of the memtables, and with locks of Pebble held; there is one flush at a time.
func (p *pacer) flushBegins(bytes uint64) {
	if p == nil {
		return
	}
	put, all := p.put.Load(), stopMemTables*p.memTableBytes
	p.flushed = min(put, p.flushed+bytes) // a memtable has more bytes than the batches in it
	p.flush.Store(&flushBeside{
		at: p.clock.Now(), put: put, bytes: bytes, room: all - min(all, bytes+put-p.flushed),
		wake: make(chan struct{}, 1),
	})
}

// flushWrote is called with how much of a table a flush has written.
func (p *pacer) flushWrote(n int) {
	if f := p.flush.Load(); f != nil {
		f.tell(f.written.Add(uint64(n)))
	}
}

// flushEnds is called with locks of Pebble held.
func (p *pacer) flushEnds() {
	if p == nil {
		return
	}
	if f := p.flush.Load(); f != nil {
		f.written.Store(allWritten)
		f.tell(allWritten)
	}
}

// tell wakes who waits for no more than what was written.
func (f *flushBeside) tell(written uint64) {
	if need := f.need.Load(); need > 0 && written >= need {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

// admit is called before each batch. It waits, for admitMax at most, where what was put beside a flush is ahead of it. Pebble lets everything in
// until all memtables are full, and then nothing until the flush ends: all clients would wait for that together. Of batches that are committed
// beside each other one may wait longer than it has to.
func (p *pacer) admit() {
	if p == nil {
		return
	}
	f := p.flush.Load()
	if f == nil {
		return
	}
	if need := f.needs(p.put.Load()); f.written.Load() < need {
		f.waited.Store(true)
		f.await(need, p.clock.NewTimer(admitMax), p.stop)
	}
}

// await returns when so much was written, the timer has fired or stop is closed.
func (f *flushBeside) await(need uint64, timer clock.Timer, stop <-chan struct{}) {
	defer timer.Stop()
	f.need.Store(need)
	defer f.need.Store(0)
	for f.written.Load() < need {
		select {
		case <-f.wake:
		case <-timer.C():
			return
		case <-stop:
			return
		}
	}
}

// end ends all rests for good.
func (p *pacer) end() {
	if p != nil {
		close(p.stop)
	}
}

// cutOff ends the compactions under way, which Pebble waits for when it is closed: one of a defragmentation rewrites the whole state, and ends with no
// context. Nothing is lost but their work; Pebble removes what they have written, and begins anew after the next start. It belongs just before Pebble is
// closed: until then one that is cut off begins again at once.
func (p *pacer) cutOff() {
	if p != nil {
		close(p.cut)
	}
}

// isCutOff says whether cutOff was called.
func (p *pacer) isCutOff() bool {
	select {
	case <-p.cut:
		return true
	default:
		return false
	}
}

// wrap makes a file one whose writer rests if it is a table.
func (p *pacer) wrap(f vfs.File, c vfs.DiskWriteCategory) vfs.File {
	if p == nil || c != compactionCategory && c != flushCategory {
		return f
	}
	return &pacedFile{File: f, pacer: p, flush: c == flushCategory, stints: p.stints()}
}

// stints begins those of one goroutine of a flush or a compaction.
func (p *pacer) stints() *pacing.Stints { return pacing.NewStints(p.clock, p.stop, p.busy).Gently() }

// remove removes a file, a table piece by piece with rests while clients ask for anything: Pebble has a goroutine for those, and one takes some ms
// where the system tells the disk of the space that is given back. The name goes first; where a crash brings it back no manifest names it, and Pebble
// removes it unread. Nobody has one open that Pebble removes, and one that a copy has linked stays whole.
func (p *pacer) remove(fs vfs.FS, name string) error {
	if p == nil || !strings.HasSuffix(name, tableSuffix) || !p.busy(p.clock.Now()) {
		return fs.Remove(name)
	}
	if _, err := fs.Stat(name); err != nil {
		return fs.Remove(name) // to open it would make it
	}
	stints := pacing.NewStints(p.clock, p.stop, p.busy)
	f, openErr := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	err := fs.Remove(name)
	stints.Pause()
	if openErr != nil {
		return err // what cannot be opened goes at once
	}
	if err == nil {
		giveBack(f, stints)
	}
	_ = f.Close() // it was open to be given back, and is removed whatever this says
	return err
}

// giveBack gives back what a file without a name takes.
func giveBack(f vfs.File, stints *pacing.Stints) {
	if info, err := f.Stat(); err == nil {
		GiveBack(info.Size(), shrinkBytes, func(to int64) error { return Shrink(f, to) }, stints.Pause)
	}
}

func (p *pacer) busy(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.demand.Busy(now)
}

// parts returns how long rests are now.
func (p *pacer) parts() restParts {
	db := p.db.Load()
	if db == nil {
		return restParts{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := p.clock.Now(); !now.Before(p.next) {
		m := db.Metrics()
		p.part, p.next = restPartsOf(m.Levels[0].Sublevels, m.Compact.EstimatedDebt, m.MemTable.Count), now.Add(lookEvery)
	}
	return p.part
}

// restPartsOf is the rule: rests are whole unless the work is behind.
func restPartsOf(sublevels int32, debt uint64, memTables int64) (r restParts) {
	if debt <= hurriedDebtBytes {
		r.compaction = max(0, min(1, float64(hurriedSublevels-sublevels)/(hurriedSublevels-calmSublevels)))
	}
	if memTables <= calmMemTables {
		r.flush = 1
	}
	return r
}

// isFlushHurried says whether the memtable that is written to may be full before a flush ends that rests.
func (p *pacer) isFlushHurried() bool {
	f := p.flush.Load()
	return f != nil && (f.waited.Load() || fillsSoon(p.put.Load()-f.put, p.memTableBytes, p.clock.Now().Sub(f.at)))
}

// fillsSoon is the rule, for what was put within some time.
func fillsSoon(put, memTableBytes uint64, within time.Duration) bool {
	return put >= memTableBytes/hurriedPart && float64(put)*float64(calmFill) > float64(memTableBytes)*float64(within)
}

// pacedFile is a table that is being written.
type pacedFile struct {
	vfs.File
	pacer   *pacer
	flush   bool
	stints  *pacing.Stints
	written int64
	begun   int64 // what of it is on its way to the disk
	waits   bool  // the filesystem knows only syncs, and Pebble sees to those
}

// Write implements vfs.File. The error of a compaction that was cut off is one by which Pebble knows that nothing is wrong.
func (f *pacedFile) Write(b []byte) (int, error) {
	if !f.flush && f.pacer.isCutOff() {
		return 0, pebble.ErrCancelledCompaction
	}
	if !f.flush {
		f.stints.Resume() // in between it waited for the compaction's goroutine, which rests on its own (compactionScheduler)
	}
	n, err := f.File.Write(b)
	if err != nil {
		return n, err
	}
	if err := f.writeBack(n); err != nil {
		return n, err
	}
	if f.flush {
		f.pacer.flushWrote(n)
	}
	part := f.pacer.parts()
	switch {
	case !f.flush:
		f.stints.PauseFor(part.compaction)
	case f.pacer.isFlushHurried():
		f.stints.PauseFor(0)
	default:
		f.stints.PauseFor(part.flush)
	}
	return n, nil
}

// writeBack begins to bring to the disk what was written, where that can be begun without waiting for its end.
func (f *pacedFile) writeBack(n int) error {
	f.written += int64(n)
	if f.waits || f.written-f.begun < writeBackBytes {
		return nil
	}
	f.begun = f.written
	var err error
	f.waits, err = f.SyncTo(f.written)
	return err
}
