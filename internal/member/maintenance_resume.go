package member

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/etcdfile"
)

// ErrExportGone is returned by ResumeExport when the database file is not there any more.
var ErrExportGone = errors.New("member: that export is not kept any more")

// exportFile is a database, which lives in a file without a name.
type exportFile struct {
	id      string // drawn at random: who knows it was sent the beginning
	image   *etcdfile.Image
	version string
}

// end gives the file's space back piece by piece.
func (f *exportFile) end(rest func()) error {
	return errors.Join(f.image.Empty(rest), f.image.Close())
}

// keptExport is a file that nobody reads at the moment. There is one at most.
type keptExport struct {
	exportFile
	timer clock.Timer
}

func newExportID() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("draw the id of an export: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// ID names the export for ResumeExport.
func (e *Export) ID() string { return e.id }

// Keep is Close for an export whose reader may come back within d: until then, and as long as the disk has room for what else is
// exported and no other is kept, ResumeExport goes on with it.
func (e *Export) Keep(d time.Duration) error {
	x := e.x
	x.mu.Lock()
	defer x.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || x.ended || e.broken { // who came back would get no further
		return e.closeLocked()
	}
	e.leaveLocked()
	err := x.forgetKeptLocked()
	k := &keptExport{exportFile: e.exportFile}
	x.kept = k
	k.timer = x.m.cfg.Clock.AfterFunc(d, func() {
		if f := x.takeKept(k); f != nil {
			_ = f.end(x.m.newStints().Pause) // it was only read
		}
	})
	return err
}

// takeKept takes the file of an export from those that are kept, if it is still there.
func (x *maintenance) takeKept(k *keptExport) *exportFile {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.kept != k {
		return nil
	}
	x.kept = nil
	return &k.exportFile
}

// forgetKept gives the space of the kept export back, and tells whether there was one.
func (x *maintenance) forgetKept() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	there := x.kept != nil
	_ = x.forgetKeptLocked() // it was only read
	return there
}

// forgetKeptLocked REQUIRES: mu.
func (x *maintenance) forgetKeptLocked() error {
	k := x.kept
	if k == nil {
		return nil
	}
	x.kept = nil
	k.timer.Stop()
	return k.image.Close()
}

// ResumeExport returns an export again whose reader was cut off, from its beginning: one that is kept, or one whose reader has
// not noticed yet, which loses it. It waits as Export does. It returns ErrExportGone when there is none of that id.
func (m *Member) ResumeExport(ctx context.Context, id string) (_ *Export, err error) {
	x := &m.maintenance
	if err := x.enterExport(ctx); err != nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	e := &Export{x: x, pace: m.newStints()}
	if e.exportFile = x.takeLocked(id); e.image == nil {
		<-x.exports
		return nil, ErrExportGone
	}
	e.sendLocked()
	m.cfg.Logger.Info("going on with an export that was cut off", "bytes", e.image.Size())
	return e, nil
}

// takeLocked takes the file of an id from whoever has it. REQUIRES: mu.
func (x *maintenance) takeLocked(id string) (f exportFile) {
	if k := x.kept; k != nil && k.id == id {
		x.kept = nil
		k.timer.Stop()
		return k.exportFile
	}
	for e := range x.sent {
		e.mu.Lock()
		if e.id == id {
			e.leaveLocked()
			f = e.exportFile
		}
		e.mu.Unlock()
	}
	return f
}
