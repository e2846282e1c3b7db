package member

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/pacing"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// exportsMax is how many databases are made or sent at once: each takes as much of the disk as the state.
const exportsMax = 2

// exportStall is how long nothing may be read of a database file while somebody waits for a place: then its reader has lost
// it, so that a client that does not read costs only itself.
const exportStall = 10 * time.Second

// exportCacheBytes is the block cache of the copy that a database file is made from: it is read once, from its beginning to its end.
const exportCacheBytes = 8 << 20

// exportSpareBytes is what the disk must have room for besides a database file: the flush that the copy begins with. Without room a flush
// ends the member, and an export must not.
const exportSpareBytes = 32 << 20

// ErrExportLost is returned to a reader that has read nothing of its Export for exportStall while others waited.
var ErrExportLost = errors.New("member: the export was given up, since nothing of it was read while others waited")

// Names of what databases are made of, until it is whole, below the root (docs/format/data-dir.md).
const (
	exportPrefix = "export-"
	exportSuffix = ".db.tmp"
	exportCopy   = ".state" // and at the end of that name, the copy of the state that it is made from
)

// Export is the state at one instant as a database file that etcd and its tools can read. It belongs to one goroutine;
// Close must be called, and gives the space of what it is made of back.
type Export struct {
	x    *maintenance
	left int64
	from *etcdfile.ImageReader
	pace *pacing.Stints // of whoever reads
	exportFile

	mu     sync.Mutex // guards what follows, and reading; it comes after maintenance.mu
	read   time.Time  // when something was last read
	closed bool       // by its owner, or because it was lost
	broken bool       // what it is made of is damaged, or cannot be read
}

// Export makes a database of the state as of now. It waits while too many others are made or sent, and stops when ctx
// ends. When it fails, for want of space for instance, nothing is left of it.
func (m *Member) Export(ctx context.Context) (_ *Export, err error) {
	x := &m.maintenance
	if err := x.enterExport(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			<-x.exports
		}
	}()
	ctx, end, err := x.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	e := &Export{x: x, pace: m.newStints()}
	if e.id, err = newExportID(); err != nil {
		return nil, err
	}
	err = m.exportTo(ctx, e)
	if err != nil && x.ctx.Err() != nil {
		err = ErrStopped
	}
	if err != nil {
		return nil, fmt.Errorf("export the state: %w", err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	e.sendLocked()
	return e, nil
}

// sendLocked notes that the export is being read. REQUIRES: maintenance.mu.
func (e *Export) sendLocked() {
	e.from, e.left, e.read = e.image.Reader(), e.image.Size(), e.x.m.cfg.Clock.Now()
	e.x.sent[e] = struct{}{}
}

// enterExport waits for a place among those that are made or sent.
func (x *maintenance) enterExport(ctx context.Context) error {
	patience := x.m.cfg.Clock.NewTicker(exportStall)
	defer patience.Stop()
	for {
		select {
		case x.exports <- struct{}{}:
			return nil
		case now := <-patience.C():
			x.loseStalled(now)
		case <-ctx.Done():
			return ctx.Err()
		case <-x.ctx.Done():
			return ErrStopped
		}
	}
}

// loseStalled takes the places of exports of which nothing was read for exportStall.
func (x *maintenance) loseStalled(now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for e := range x.sent {
		e.mu.Lock()
		if now.Sub(e.read) >= exportStall {
			x.m.cfg.Logger.Warn("giving up an export that nobody reads", "bytes-left", e.left)
			_ = e.closeLocked() // it was only read
		}
		e.mu.Unlock()
	}
}

// exportTo makes the image of an export.
func (m *Member) exportTo(ctx context.Context, e *Export) error {
	clk := m.cfg.Clock
	begin := clk.Now()
	f, err := m.tempFile()
	if err != nil {
		return err
	}
	err = m.withCopy(f.Name()+exportCopy, func(db *storage.DB) error {
		c, err := etcdfile.Read(db)
		if err != nil {
			return err
		}
		e.version, c.Rest = c.ClusterVersion, m.newStints().Pause
		e.image, err = c.Image(ctx, f)
		return errors.Join(err, c.Close())
	})
	// The open file lives on without its name, and ends with this process at the latest.
	if err = errors.Join(err, os.Remove(f.Name())); err != nil {
		return errors.Join(err, f.Close())
	}
	m.measures.Exports.Took(clk.Now().Sub(begin))
	m.cfg.Logger.Info("exported the state", "bytes", e.image.Size(), "took", clk.Now().Sub(begin))
	return nil
}

// withCopy calls fn with a copy of the state, which lies in dir until fn returns.
func (m *Member) withCopy(dir string, fn func(*storage.DB) error) (err error) {
	fs := m.cfg.FS
	defer func() { err = errors.Join(err, fs.RemoveAll(dir)) }()
	var db *storage.DB
	err = m.held(func(g *generation) (err error) {
		need := g.store.SizeInUse() + exportSpareBytes
		err = m.roomFor(need)
		if errors.Is(err, syscall.ENOSPC) && m.maintenance.forgetKept() {
			err = m.roomFor(need)
		}
		if err != nil {
			return err
		}
		db, err = g.db.OpenCopy(dir, storage.Options{FS: fs, Logger: m.cfg.Logger, Fatal: m.fatal, CacheBytes: exportCacheBytes})
		return err
	})
	if err != nil {
		return err
	}
	return errors.Join(fn(db), db.Close())
}

// roomFor returns an error unless the disk has so many bytes left, or does not tell.
func (m *Member) roomFor(bytes int64) error {
	disk, err := m.cfg.FS.GetDiskUsage(storage.Root(m.cfg.DataDir))
	if errors.Is(err, vfs.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("ask for the free space of the disk: %w", err)
	}
	if disk.AvailBytes < uint64(bytes) {
		return fmt.Errorf("%w: %d MiB are needed, %d MiB are free", syscall.ENOSPC, bytes>>20, disk.AvailBytes>>20)
	}
	return nil
}

// Version returns the storage version of the file, such as "3.7.0".
func (e *Export) Version() string { return e.version }

// Left returns how many bytes are still to be read.
func (e *Export) Left() int64 { return e.left }

// sendRests is how many times as long the rests of whoever sends a file are as those of whoever makes one: what was read has to be written to the
// connection, too, and received, often on the same processors, and neither is counted as work.
const sendRests = 2

// Rest is to be called when the work on what was read is done: it lets others run and, while clients ask for anything, rests. The time from
// there to the next Read is not counted as work.
func (e *Export) Rest() { e.pace.PauseFor(sendRests) }

// Read implements io.Reader. It returns ErrExportLost when it comes too late.
func (e *Export) Read(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return 0, ErrExportLost
	}
	e.pace.Resume()
	e.read = e.x.m.cfg.Clock.Now()
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.from.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if errors.Is(err, io.EOF) && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	e.broken = e.broken || err != nil && !errors.Is(err, io.EOF)
	return n, err
}

// Close gives the file's space back, and then its place.
func (e *Export) Close() error {
	if !e.stop() {
		return nil
	}
	e.pace.Resume()
	err := e.end(e.pace.Pause)
	<-e.x.exports
	return err
}

// stop ends the reading, and tells whether it had not ended yet: then the file and the place are the caller's.
func (e *Export) stop() bool {
	e.x.mu.Lock()
	defer e.x.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.stopLocked()
	return true
}

// stopLocked REQUIRES: both locks.
func (e *Export) stopLocked() {
	e.closed, e.from = true, nil
	delete(e.x.sent, e)
}

// closeLocked REQUIRES: both locks.
func (e *Export) closeLocked() error {
	if e.closed {
		return nil
	}
	e.leaveLocked()
	return e.image.Close()
}

// leaveLocked ends the reading, gives the place back and leaves the file open. REQUIRES: both locks.
func (e *Export) leaveLocked() {
	e.stopLocked()
	<-e.x.exports
}

// removeExports removes what a crash has left of database files.
func (m *Member) removeExports() error {
	root := storage.Root(m.cfg.DataDir)
	names, err := m.cfg.FS.List(root)
	if err != nil {
		return fmt.Errorf("look for unfinished exports: %w", err)
	}
	for _, name := range names {
		if !strings.HasPrefix(name, exportPrefix) || !strings.Contains(name, exportSuffix) {
			continue
		}
		m.cfg.Logger.Info("removing an unfinished export", "file", name)
		if err := m.cfg.FS.RemoveAll(m.cfg.FS.PathJoin(root, name)); err != nil {
			return fmt.Errorf("remove an unfinished export: %w", err)
		}
	}
	return nil
}
