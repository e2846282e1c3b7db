package util

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/offline"
	"github.com/ashlar-kv/ashlar/internal/progress"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

func (s *session) defragCommand() *cobra.Command {
	var dataDir, walDir string
	c := &cobra.Command{Use: "defrag", Short: "Rewrites a stopped member's database, so that it takes no more room than it needs"}
	c.Flags().StringVar(&dataDir, "data-dir", "", "the member's data directory, of etcd or of ours")
	c.Flags().StringVar(&walDir, "wal-dir", "", "the log's directory, of a member of ours that has it elsewhere")
	_ = c.MarkFlagRequired("data-dir") // the flag is there
	c.RunE = run(func(ctx context.Context, _ []string) error {
		if err := s.defrag(ctx, dataDir, walDir); err != nil {
			//lint:ignore ST1005 etcdutl's words
			return fmt.Errorf("Failed to defragment etcd data[%s] (%w)", dataDir, err)
		}
		return nil
	})
	return c
}

func (s *session) defrag(ctx context.Context, dataDir, walDir string) error {
	there, err := offline.Exists(dataDir)
	if err != nil {
		return err
	}
	if there {
		return s.defragOurs(ctx, dataDir, walDir)
	}
	path := databasePath(dataDir)
	if _, err := os.Stat(path); err != nil {
		return err
	}
	// Before it is opened for writing: a damaged one could end the process then.
	if err := s.withFile(path, func(f *etcdfile.File) error { return f.Check(ctx) }); err != nil {
		return err
	}
	before, after, err := etcdfile.Defragment(ctx, path, s.timeout)
	if err == nil {
		s.log.Info("finished defragmenting", "path", path, "from", progress.Bytes(before), "to", progress.Bytes(after))
	}
	return err
}

// defragOurs rewrites the state that the log names.
func (s *session) defragOurs(ctx context.Context, dataDir, walDir string) (err error) {
	var dir string
	err = s.withState(dataDir, walDir, func(d *offline.Directory) error { dir = d.State.Dir(); return nil })
	if err != nil {
		return err
	}
	lock, err := offline.Lock(dataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	db, err := storage.OpenState(dir, storage.Options{Fatal: func(error) {}}) // every call returns the failure, too
	if err != nil {
		return err
	}
	before := db.Metrics().DiskBytes
	err = db.CompactAll(ctx)
	after := db.Metrics().DiskBytes
	if err = errors.Join(err, db.Close()); err == nil {
		s.log.Info("finished defragmenting", "path", dir, "from", progress.Bytes(int64(before)), "to", progress.Bytes(int64(after)))
	}
	return err
}
