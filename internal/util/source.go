package util

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/offline"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// databasePath is where etcd has its database in a data directory.
func databasePath(dataDir string) string { return filepath.Join(dataDir, "member", "snap", "db") }

// ours returns the data directory of ours that a path means: that path is its ashlar directory, or where etcd would have its
// database there.
func ours(path string) (dataDir string, ok bool, err error) {
	path = filepath.Clean(path)
	switch {
	case filepath.Base(path) == filepath.Base(storage.Root("")):
		dataDir = filepath.Dir(path)
	case len(path) > len(databasePath("")) && path == databasePath(path[:len(path)-len(databasePath(""))]):
		dataDir = filepath.Clean(path[:len(path)-len(databasePath(""))])
	default:
		return "", false, nil
	}
	ok, err = offline.Exists(dataDir)
	return dataDir, ok, err
}

// withState calls fn with the directory of ours, opened.
func (s *session) withState(dataDir, walDir string, fn func(*offline.Directory) error) (err error) {
	d, err := offline.Open(dataDir, walDir, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if n := d.Behind(); n > 0 {
		s.log.Warn("the member was not stopped: committed entries are not applied yet and not looked at; "+
			"a start and a stop of it apply them", "entries", n)
	}
	if err := d.CheckTrusted(); err != nil {
		s.log.Warn("what is read here may be wrong", "why", err.Error())
	}
	return fn(d)
}

// withFile calls fn with the database file, opened for reading.
func (s *session) withFile(path string, fn func(*etcdfile.File) error) (err error) {
	if info, err := os.Stat(path); err != nil {
		return err
	} else if info.IsDir() {
		return errors.New("invalid database")
	}
	f, err := etcdfile.OpenWithin(path, s.timeout)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return fn(f)
}

// export writes the state of a directory of ours as a database file, and calls fn with it. The file lies beside the state until
// fn returns, under a name that a start of the member removes if this process cannot.
func (s *session) export(ctx context.Context, d *offline.Directory, fn func(*etcdfile.File) error) (err error) {
	c, err := etcdfile.Read(d.State)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	f, err := os.CreateTemp(storage.Root(d.DataDir), "export-*.db.tmp")
	if err != nil {
		return fmt.Errorf("make a file for the database: %w", err)
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	if err := f.Close(); err != nil {
		return err
	}
	if _, err := c.Write(ctx, f.Name()); err != nil {
		return err
	}
	return s.withFile(f.Name(), fn)
}
