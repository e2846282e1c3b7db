package sim

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// failures are of a world in which disks fail. A member whose disk has failed is ended within a few steps, as whoever runs it does once it is told; until
// then it goes on, as far as it does, and what it sends arrives. It starts again on a disk that works, and holds what a crash leaves then.
type failures struct {
	on                       bool
	inside                   bool // of an operation that fails
	armed, met, ended, start int  // how often a disk was to fail, did, ended its member, and kept it from its start
}

// ailsMax is how many steps a member is there for, at most, whose disk has failed.
const ailsMax = 60

// badDisk fails operations on the disk of a member, from one start to the next.
type badDisk struct {
	log, state string // directories
	met        func() // is called within the first operation that fails, if it ends the log and the world's goroutine is in it
	world      string // that goroutine

	mu     sync.Mutex
	armed  bool
	looked bool // the world itself reads
	breaks breakage
	left   int    // operations before it
	hit    bool   // some operation has failed
	first  string // it
	spare  bool   // it was to remove a file of a state, which that can do without
	fatal  bool   // it was one that ends a log for good
	after  string // what was done to the files of a log that had ended; empty as it should be
}

// breakage is how a disk fails.
type breakage struct {
	log, state bool // where; elsewhere as well, with both
	reads      bool // in place of writes and syncs
	syncs      bool // syncs alone
	once       bool // one operation, not all from it on
	err        error
}

func (b breakage) String() string {
	where, what, often := "all of the disk", "writes", "from one on"
	switch {
	case b.log && !b.state:
		where = "the log"
	case b.state && !b.log:
		where = "the state"
	}
	switch {
	case b.reads:
		what = "reads"
	case b.syncs:
		what = "syncs"
	}
	if b.once {
		often = "one"
	}
	return fmt.Sprintf("%s of %s fail, %s, with %v", what, where, often, b.err)
}

// randomBreakage draws how a disk fails, and after how many operations.
func (w *World) randomBreakage() (breakage, int) {
	b := breakage{once: w.rng.Intn(2) == 0, err: []error{syscall.EIO, syscall.ENOSPC}[w.rng.Intn(2)]}
	where := w.rng.Intn(3)
	b.log, b.state = where != 1, where != 0
	switch w.rng.Intn(6) {
	case 0:
		b.reads, b.err = true, syscall.EIO
	case 1, 2:
		b.syncs = true
	}
	return b, w.rng.Intn([]int{4, 30, 120}[w.rng.Intn(3)])
}

// arm makes the disk fail after some operations.
func (d *badDisk) arm(b breakage, after int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed, d.breaks, d.left = true, b, after
}

// disarm makes the disk work from now on.
func (d *badDisk) disarm() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed = false
}

// look lets the world read what the disk holds, whatever fails.
func (d *badDisk) look(read func()) {
	d.mu.Lock()
	d.looked = true
	d.mu.Unlock()
	read()
	d.mu.Lock()
	d.looked = false
	d.mu.Unlock()
}

// failed says whether any operation has.
func (d *badDisk) failed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hit
}

// spared says whether what has failed first is what a state can do without.
func (d *badDisk) spared() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hit && d.spare
}

// verdict returns what is wrong with how the member has taken the failure, and whether it must have ended.
func (d *badDisk) verdict() (wrong string, ends bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.after != "" {
		wrong = fmt.Sprintf("%s, and then %s", d.first, d.after)
	}
	return wrong, d.fatal
}

// MaybeError implements errorfs.Injector.
func (d *badDisk) MaybeError(op errorfs.Op) error {
	err, first := d.outcome(op)
	if first && d.endsLog(op) && goroutine() == d.world {
		d.met()
	}
	return err
}

// String implements errorfs.Injector.
func (d *badDisk) String() string { return "(bad disk)" }

func (d *badDisk) outcome(op errorfs.Op) (err error, first bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	inLog := within(op.Path, d.log)
	if d.fatal && d.endsLog(op) && d.after == "" {
		d.after = fmt.Sprintf("operation %d on %s", op.Kind, op.Path)
	}
	if !d.armed || d.looked || !d.breaks.concerns(op.Kind, inLog, within(op.Path, d.state)) {
		return nil, false
	}
	if d.left--; d.left >= 0 {
		return nil, false
	}
	if first = !d.hit; first {
		d.hit, d.first = true, fmt.Sprintf("operation %d on %s failed", op.Kind, op.Path)
		d.fatal, d.spare = d.endsLog(op), op.Kind == errorfs.OpRemove && !inLog
	}
	d.armed = !d.breaks.once
	return d.breaks.err, first
}

// concerns says whether an operation is one of those that fail.
func (b breakage) concerns(kind errorfs.OpKind, inLog, inState bool) bool {
	switch {
	case b.log && !b.state && !inLog, b.state && !b.log && !inState:
		return false
	case b.reads:
		return kind.ReadOrWrite() == errorfs.OpIsRead
	case b.syncs:
		return syncs(kind)
	}
	return kind.ReadOrWrite() == errorfs.OpIsWrite
}

func syncs(kind errorfs.OpKind) bool {
	return kind == errorfs.OpFileSync || kind == errorfs.OpFileSyncData || kind == errorfs.OpFileSyncTo
}

// endsLog says whether a log has to end where the operation fails: it changes its files. It does none of them from then on.
func (d *badDisk) endsLog(op errorfs.Op) bool {
	return within(op.Path, d.log) && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpFileClose && op.Kind != errorfs.OpLock
}

// within says whether a file is in a directory, or in one whose name begins so.
func within(file, dir string) bool { return strings.HasPrefix(path.Clean(file), dir) }

// newDisk is the disk of a member that starts.
func (h *host) newDisk() *badDisk {
	dir := h.dataDir()
	d := &badDisk{
		log: path.Clean(storage.LogDir(dir, "")), state: strings.TrimSuffix(path.Clean(storage.StateDir(dir, 1)), "1"),
		world: goroutine(),
	}
	d.met = h.meanwhile
	return d
}

// meanwhile is what happens while a write of a member's log fails, before the member is told: messages go on, and all loops but those that
// may wait for the log. The clock stands, as in all steps but its own: until when a lease must be there is noted once a step has ended.
func (h *host) meanwhile() {
	w := h.w
	if h.m == nil || h.turning || w.failures.inside {
		return
	}
	w.failures.inside = true
	defer func() { w.failures.inside = false }()
	for range w.rng.Intn([]int{6, 20, 60}[w.rng.Intn(3)]) {
		switch o := w.pick(running); {
		case w.rng.Intn(2) == 0:
			w.network.deliverMessage()
		case o != nil && w.rng.Intn(10) == 0:
			o.m.Node().Tick()
		case o == h:
			h.turn(0)
		case o != nil:
			o.turn(w.rng.Intn(3))
		}
	}
}

// ailing says whether the disk of a running member has failed: what it is asked may fail, too.
func (h *host) ailing() bool { return h.disk.failed() }

// failure is why the member has ended itself, nil as long as it has not.
func (h *host) failure() error {
	if err := h.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// stepDisk makes the disk of a member fail soon.
func (w *World) stepDisk() {
	h := w.pick(running)
	if !w.failures.on || h == nil || h.ailing() {
		return
	}
	b, after := w.randomBreakage()
	w.note("the disk of member %d is to fail after %d operations: %s", h.n, after, b)
	w.failures.armed++
	h.disk.arm(b, after)
}

// startOnBadDisk starts a member whose disk may fail meanwhile.
func (h *host) startOnBadDisk() {
	w := h.w
	b, after := w.randomBreakage()
	w.note("member %d starts, and its disk is to fail after %d operations: %s", h.n, after, b)
	w.failures.armed++
	disk := h.newDisk()
	disk.arm(b, after)
	err := h.open(disk)
	if err == nil {
		return
	}
	w.failures.start++
	if h.failedTo("start", err); !errors.Is(err, b.err) {
		w.fail("member %d does not start, and does not say that it is for its disk: %v", h.n, err)
	}
	h.fs = h.lostPower(h.crash(50 * w.rng.Intn(3)))
}

// endAiling ends members whose disks have failed, after a while, or at once.
func (w *World) endAiling(all bool) {
	for _, h := range w.hosts {
		if h.m == nil {
			continue
		}
		if all {
			h.disk.disarm()
		}
		if !h.ailing() {
			continue
		}
		if h.ails == 0 {
			h.ails = 1 + w.rng.Intn(ailsMax)
			w.failures.met++
			w.note("the disk of member %d has failed: %s", h.n, h.disk.first)
		}
		if h.ails--; h.ails == 0 || all {
			h.endAiling()
		}
	}
}

// endAiling ends one, in order or not. It starts again on what its disk has then.
func (h *host) endAiling() {
	w := h.w
	if h.failure() != nil {
		w.failures.ended++
	}
	w.note("member %d ends, for %v", h.n, h.failure())
	if w.rng.Intn(3) > 0 {
		h.stop(50 * w.rng.Intn(3))
		return
	}
	m := h.m
	h.m, h.dismissed = nil, h.dismissed || h.lingers > 0
	w.network.down(h)
	w.forget(h)
	err := m.Stop()
	w.note("member %d has closed its disk: %v", h.n, err)
	if wrong, _ := h.disk.verdict(); wrong != "" {
		w.fail("member %d, after its end: %s", h.n, wrong)
	}
	h.fs = h.lostPower(h.crash(50 * w.rng.Intn(3)))
}

// checkDisk holds after each step: a log whose disk has failed has ended the member, and nothing is done to its files any more.
func (w *World) checkDisk(h *host) {
	wrong, ends := h.disk.verdict()
	switch failed := h.failure(); {
	case wrong != "":
		w.fail("member %d: %s", h.n, wrong)
	case failed != nil && !h.ailing():
		w.fail("member %d ended itself: %v", h.n, failed)
	case failed == nil && ends:
		w.fail("member %d goes on although its log has failed: %s", h.n, h.disk.first)
	case failed != nil && !errors.Is(failed, syscall.EIO) && !errors.Is(failed, syscall.ENOSPC):
		w.fail("member %d ended itself, and does not say that it was for its disk: %v", h.n, failed)
	}
}

// failedTo fails the test unless the member's disk is to blame.
func (h *host) failedTo(do string, err error) {
	if err != nil && !h.ailing() {
		h.w.fail("member %d: %s: %v", h.n, do, err)
	}
}

// errorPointer is an error that any goroutine may set.
type errorPointer = atomic.Pointer[error]
