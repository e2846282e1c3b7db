package offline

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Report is what Verify has read, and what of it is damaged.
type Report struct {
	// Tables are those of the state, Bytes those of its tables and of the log.
	Tables int   `json:"tables"`
	Bytes  int64 `json:"bytes"`
	// FirstEntry and LastEntry are those of the log; Applied is the last one whose effect the state has, and Behind how many
	// committed ones it does not have yet.
	FirstEntry uint64 `json:"firstEntry"`
	LastEntry  uint64 `json:"lastEntry"`
	Applied    uint64 `json:"applied"`
	Behind     uint64 `json:"behind"`
	// Revision is the store's; the rest counts records of the state.
	Revision int64 `json:"revision"`
	Records  int   `json:"records"`
	Versions int   `json:"versions"`
	Leases   int   `json:"leases"`
	Members  int   `json:"members"`
	// Damage has one text for each thing that is wrong, with the file and the place.
	Damage []string `json:"damage,omitempty"`
}

// Verify reads every block and every record of a stopped member's directory. What is damaged goes into the report; the error is
// for what keeps it from looking at all.
func Verify(ctx context.Context, dataDir, walDir string) (r Report, err error) {
	lock, err := Lock(dataDir)
	if err != nil {
		return r, err
	}
	logDir := storage.LogDir(dataDir, walDir)
	err = r.files(ctx, dataDir, logDir)
	if err = errors.Join(err, lock.Close()); err != nil {
		return r, err
	}
	d, err := Open(dataDir, walDir, nil)
	if err != nil {
		if len(r.Damage) > 0 && errors.Is(err, storage.ErrCorrupt) || errors.Is(err, storage.ErrLocked) {
			return r, nil // it was told
		}
		return r, r.note(err)
	}
	// A database that met damage says so again when it is closed, with the table's name.
	defer func() { err = errors.Join(err, r.note(d.Close())) }()
	if d.Log.Metrics().Segments > 0 {
		r.Bytes += int64(d.Log.Metrics().DiskBytes)
	}
	r.FirstEntry, r.LastEntry = d.Log.FirstIndex(), d.Log.LastIndex()
	r.Applied, r.Behind = d.Applied, d.Behind()
	if err := d.CheckTrusted(); err != nil {
		r.Damage = append(r.Damage, err.Error())
	}
	if err := r.note(d.Log.Verify()); err != nil {
		return r, err
	}
	return r, r.state(ctx, d.State)
}

// note takes damage into the report and returns every other error.
func (r *Report) note(err error) error {
	if errors.Is(err, storage.ErrCorrupt) || errors.Is(err, ErrRefused) {
		r.Damage = append(r.Damage, err.Error())
		return nil
	}
	return err
}

// files reads the files of the log and of every state.
func (r *Report) files(ctx context.Context, dataDir, logDir string) error {
	_, _, err := storage.ReadIdentityFile(vfs.Default, dataDir)
	if err := r.note(err); err != nil {
		return err
	}
	generations, err := storage.ListGenerations(vfs.Default, dataDir)
	if err != nil {
		return err
	}
	dirs := make([]string, 0, len(generations)+1)
	for _, g := range generations {
		dirs = append(dirs, storage.StateDir(dataDir, g))
	}
	// The log of an earlier release is a database, too; opening one of this release reads all of it.
	there, err := storage.Exists(vfs.Default, logDir)
	if err != nil {
		return err
	}
	if there {
		dirs = append(dirs, logDir)
	}
	for _, dir := range dirs {
		v, err := storage.VerifyTables(ctx, vfs.Default, dir, dir == logDir, r.note)
		if err != nil {
			return fmt.Errorf("verify %s: %w", dir, err)
		}
		r.Tables += v.Tables
		r.Bytes += v.Bytes
	}
	return nil
}

// state reads every record.
func (r *Report) state(ctx context.Context, db *storage.DB) (err error) {
	c, err := etcdfile.Read(db)
	if err != nil {
		return r.note(err)
	}
	// An iterator that met a damaged block says so again when it is closed.
	defer func() {
		if cerr := c.Close(); err == nil && len(r.Damage) == 0 {
			err = cerr
		}
	}()
	r.Revision = c.Revision
	n, err := c.Verify(ctx)
	r.Records, r.Versions, r.Leases, r.Members = n.Records, n.Versions, n.Leases, n.Members
	return r.note(err)
}
