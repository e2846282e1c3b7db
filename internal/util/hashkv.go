package util

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/offline"
)

func (s *session) hashKVCommand() *cobra.Command {
	var rev int64
	var walDir string
	c := &cobra.Command{Use: "hashkv <filename>", Short: "Prints the hash of a store's history", Args: exactly(1),
		Long: "Prints what HashKV answers for the content of a database of etcd's (DIR/member/snap/db), a snapshot, or a stopped\nmember of ours (DIR/ashlar)."}
	c.Flags().Int64Var(&rev, "rev", 0, "revision to hash at (0: the newest)")
	c.Flags().StringVar(&walDir, "wal-dir", "", "the log's directory, of a member of ours that has it elsewhere")
	c.RunE = run(func(ctx context.Context, args []string) error {
		if err := s.checkFormat(); err != nil {
			return err
		}
		h, err := s.hashKV(ctx, args[0], walDir, rev)
		switch {
		case errors.Is(err, mvcc.ErrCompacted):
			return errors.New("mvcc: required revision has been compacted")
		case errors.Is(err, mvcc.ErrFutureRevision):
			return errors.New("mvcc: required revision is a future revision")
		case err != nil:
			return err
		}
		return s.print(h.reply())
	})
	return c
}

// hashKV is a hash, the revision that it is of, and the one compacted to.
type hashKV struct {
	Hash            uint32 `json:"hash"`
	HashRevision    int64  `json:"hashRevision"`
	CompactRevision int64  `json:"compactRevision"`
}

func (s *session) hashKV(ctx context.Context, path, walDir string, rev int64) (h hashKV, err error) {
	dataDir, ok, err := ours(path)
	if err != nil {
		return h, err
	}
	if ok {
		return h, s.withState(dataDir, walDir, func(d *offline.Directory) error {
			store, err := mvcc.Open(d.State)
			if err != nil {
				return err
			}
			h.Hash, h.CompactRevision, h.HashRevision, err = store.HashNow(ctx, rev)
			return err
		})
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return h, fmt.Errorf("%s is a directory: give its member/snap/db, or its ashlar", path)
	}
	return h, s.withFile(path, func(f *etcdfile.File) error {
		h.Hash, h.CompactRevision, h.HashRevision, err = f.HashKV(ctx, rev)
		return err
	})
}

func (h hashKV) reply() reply {
	hash, rev, compacted := fmt.Sprint(h.Hash), fmt.Sprint(h.HashRevision), fmt.Sprint(h.CompactRevision)
	return reply{
		simple:   fmt.Sprintf("%s, %s, %s", hash, rev, compacted),
		fields:   []field{{"Hash", hash}, {"Hash revision", rev}, {"Compact revision", compacted}},
		json:     h,
		headings: []string{"HASH", "HASH REVISION", "COMPACT REVISION"},
		row:      []string{hash, rev, compacted},
	}
}
