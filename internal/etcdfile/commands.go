package etcdfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/raft/v3/raftpb"
)

// Commands calls fn for each command in a log of etcd's that comes after the newest committed snapshot whose file lies in snapDir:
// those that etcd reads at a start. A command whose index was there before takes the place of that one and of all after it.
func Commands(ctx context.Context, walDir, snapDir string, fn func(index uint64, command []byte) error) error {
	var all []WALSnapshot
	commit := uint64(0)
	err := ReadWAL(ctx, walDir, WALReader{
		HardState: func(hs *raftpb.HardState) error { commit = hs.GetCommit(); return nil },
		Snapshot:  func(s WALSnapshot) error { all = append(all, s); return nil },
	})
	if err != nil {
		return err
	}
	after := uint64(0)
	for _, s := range all {
		if s.Index <= after || s.Index > commit {
			continue
		}
		_, err := os.Stat(filepath.Join(snapDir, RaftSnapName(s.Term, s.Index)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look for a snapshot: %w", err)
		}
		if err == nil {
			after = s.Index
		}
	}
	return ReadWAL(ctx, walDir, WALReader{Entry: func(e *raftpb.Entry) error {
		if e.GetIndex() <= after || e.GetType() != raftpb.EntryNormal {
			return nil
		}
		return fn(e.GetIndex(), e.GetData())
	}})
}
