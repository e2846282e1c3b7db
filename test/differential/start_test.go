package differential

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// start is how both machines begin anew in the middle of a log: what they hold in memory must be what they find on the disk, and each
// must go on from the other's database, as after a snapshot.
type start string

const (
	startInPlace    start = "each from its own state"
	startFromEtcd   start = "ashlar from a database of etcd"
	startFromAshlar start = "etcd from a database of ashlar"
)

var starts = []start{startInPlace, startFromEtcd, startFromAshlar}

// start has both machines begin anew: those hashes of compactions that they keep in memory are gone at both.
func (p *pair) start(s start) error {
	if err := p.settle(); err != nil {
		return err
	}
	fromEtcd, fromAshlar := filepath.Join(p.t.TempDir(), "db"), filepath.Join(p.t.TempDir(), "db")
	path, fs, fill := p.e.path, p.a.fs, (func(*storage.DB) error)(nil)
	switch s {
	case startFromEtcd:
		if err := p.e.write(fromEtcd); err != nil {
			return err
		}
		fs, fill = vfs.NewMem(), func(db *storage.DB) error { return build(db, fromEtcd, p.index) }
	case startFromAshlar:
		for p.a.store.CompactPending() { // etcd would go on with it at a time of its own
			if _, err := p.a.store.CompactStep(context.Background(), 1000); err != nil {
				return err
			}
		}
		if err := p.a.write(fromAshlar); err != nil {
			return err
		}
		path = fromAshlar
	}
	p.e.be.ForceCommit()
	p.close()
	p.e, p.a = openEtcd(p.t, path), openAshlar(p.t, fs, fill)
	if err := p.compareStates(); err != nil {
		return fmt.Errorf("after a start, %s: %w", s, err)
	}
	return nil
}

// write writes the database of etcd that is sent to members of etcd.
func (a *ashlar) write(path string) error {
	c, err := etcdfile.Read(a.db)
	if err != nil {
		return err
	}
	_, err = c.Write(context.Background(), path)
	return errors.Join(err, c.Close())
}

// build writes the state that is made of a database of etcd.
func build(db *storage.DB, path string, index uint64) error {
	f, err := etcdfile.Open(path)
	if err != nil {
		return err
	}
	err = f.Build(context.Background(), db, index, term, &raftpb.ConfState{Voters: []uint64{memberSelf}})
	return errors.Join(err, f.Close())
}
