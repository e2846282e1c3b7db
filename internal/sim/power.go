package sim

import (
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// powerCut keeps a copy of a disk as a power cut at a chosen write would leave it. The
// member goes on; the copy is used when it is stopped.
type powerCut struct {
	mu    sync.Mutex
	fs    *vfs.MemFS // nil: not armed
	crash crash
	left  int
	seen  int
	after *vfs.MemFS
	err   error // why there is no after
}

// arm makes the power fail before the n-th write from now on, counted from 0.
func (p *powerCut) arm(fs *vfs.MemFS, n int, c crash) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fs, p.crash, p.left, p.seen, p.after, p.err = fs, c, n, 0, nil, nil
}

// disarm returns the disk as the power cut left it; nil when it did not come.
func (p *powerCut) disarm() (*vfs.MemFS, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	disk, err := p.after, p.err
	p.fs, p.after, p.err = nil, nil, nil
	return disk, err
}

// now returns the disk as a power cut leaves it at this moment.
func (p *powerCut) now(fs *vfs.MemFS, c crash) (*vfs.MemFS, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return c.of(fs)
}

// failed says whether the power cut has come: what the member does since is lost, and so is what it sends.
func (p *powerCut) failed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.after != nil
}

// writes returns how many writes there were since arm.
func (p *powerCut) writes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen
}

// MaybeError implements errorfs.Injector. It never fails an operation.
func (p *powerCut) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fs == nil {
		return nil
	}
	p.seen++
	if p.left--; p.left < 0 && p.after == nil && p.err == nil {
		p.after, p.err = p.crash.of(p.fs)
	}
	return nil
}

// String implements errorfs.Injector.
func (p *powerCut) String() string { return "(power cut)" }
