package member

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// exportsMax is how many database files are made or sent at once: each takes as much of the disk as the state.
const exportsMax = 2

// Names of unfinished database files below the root (docs/format/data-dir.md).
const (
	exportPrefix = "export-"
	exportSuffix = ".db.tmp"
)

// Export is the state at one instant as a database file that etcd and its tools can read. It belongs to one goroutine;
// Close must be called, and removes the file.
type Export struct {
	file    *os.File
	size    int64
	left    int64
	version string
	release func()
}

// Export makes a database file of the state as of now. It waits while too many others are made or sent, and stops when ctx
// ends. When it fails, for want of space for instance, nothing is left of it.
func (m *Member) Export(ctx context.Context) (_ *Export, err error) {
	x := &m.maintenance
	select {
	case x.exports <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-x.ctx.Done():
		return nil, ErrStopped
	}
	release := func() { <-x.exports }
	defer func() {
		if err != nil {
			release()
		}
	}()
	ctx, end, err := x.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	e := &Export{release: release}
	path, err := m.exportTo(ctx, e)
	if err != nil && x.ctx.Err() != nil {
		err = ErrStopped
	}
	if err != nil {
		return nil, fmt.Errorf("export the state: %w", err)
	}
	if e.file, err = os.Open(path); err != nil {
		return nil, errors.Join(fmt.Errorf("export the state: %w", err), os.Remove(path))
	}
	// The open file lives on without its name, and ends with this process at the latest.
	if err := os.Remove(path); err != nil {
		return nil, errors.Join(fmt.Errorf("export the state: %w", err), e.file.Close())
	}
	e.left = e.size
	return e, nil
}

// exportTo writes the file and returns its path.
func (m *Member) exportTo(ctx context.Context, e *Export) (path string, err error) {
	clk := m.cfg.Clock
	begin := clk.Now()
	f, err := os.CreateTemp(storage.Root(m.cfg.DataDir), exportPrefix+"*"+exportSuffix)
	if err != nil {
		return "", err
	}
	path = f.Name()
	if err = f.Close(); err == nil {
		err = m.held(func(g *generation) error {
			c, err := etcdfile.Read(g.db)
			if err != nil {
				return err
			}
			e.version = c.ClusterVersion
			e.size, err = c.Write(ctx, path)
			return errors.Join(err, c.Close())
		})
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(path))
	}
	m.cfg.Logger.Info("exported the state", "bytes", e.size, "took", clk.Now().Sub(begin))
	return path, nil
}

// Version returns the storage version of the file, such as "3.7.0".
func (e *Export) Version() string { return e.version }

// Left returns how many bytes are still to be read.
func (e *Export) Left() int64 { return e.left }

// Read implements io.Reader.
func (e *Export) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.file.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if errors.Is(err, io.EOF) && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close gives the file's space back.
func (e *Export) Close() error {
	defer e.release()
	return e.file.Close()
}

// removeExports removes what a crash has left of database files.
func (m *Member) removeExports() error {
	root := storage.Root(m.cfg.DataDir)
	names, err := m.cfg.FS.List(root)
	if err != nil {
		return fmt.Errorf("look for unfinished exports: %w", err)
	}
	for _, name := range names {
		if !strings.HasPrefix(name, exportPrefix) || !strings.HasSuffix(name, exportSuffix) {
			continue
		}
		m.cfg.Logger.Info("removing an unfinished export", "file", name)
		if err := m.cfg.FS.Remove(m.cfg.FS.PathJoin(root, name)); err != nil {
			return fmt.Errorf("remove an unfinished export: %w", err)
		}
	}
	return nil
}
