package util

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/offline"
	"github.com/ashlar-kv/ashlar/internal/storage"
	"github.com/ashlar-kv/ashlar/internal/version"
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
		s.log.Info("finished defragmenting", "path", path, "from", siBytes(before), "to", siBytes(after))
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
		s.log.Info("finished defragmenting", "path", dir, "from", siBytes(int64(before)), "to", siBytes(int64(after)))
	}
	return err
}

func (s *session) migrateCommand() *cobra.Command {
	var dataDir, target string
	var force bool
	c := &cobra.Command{Use: "migrate", Short: "Makes a stopped member's files fit for another version of etcd"}
	c.Flags().StringVar(&dataDir, "data-dir", "", "the member's data directory, of etcd or of ours")
	c.Flags().StringVar(&target, "target-version", "", `version to make the files fit for, "X.Y", from 3.5 on`)
	c.Flags().BoolVar(&force, "force", false, "write the version even where no way to it is known")
	_ = c.MarkFlagRequired("data-dir") // the flags are there
	_ = c.MarkFlagRequired("target-version")
	c.RunE = run(func(ctx context.Context, _ []string) error {
		to, err := parseLevel(target)
		if err != nil {
			return badArguments("wrong target version format, expected \"X.Y\", got %q", target)
		}
		if to.below(level{3, 5}) {
			return badArguments("target version %q not supported. Minimal \"3.5\"", target)
		}
		return s.migrate(ctx, dataDir, to, force)
	})
	return c
}

// level is a version without its patch.
type level struct{ major, minor uint64 }

func parseLevel(text string) (l level, err error) {
	major, minor, ok := strings.Cut(text, ".")
	if !ok {
		return l, errors.New("no dot")
	}
	if l.major, err = strconv.ParseUint(major, 10, 32); err != nil {
		return l, err
	}
	l.minor, err = strconv.ParseUint(minor, 10, 32)
	return l, err
}

func (l level) String() string { return fmt.Sprintf("%d.%d", l.major, l.minor) }

func (l level) below(o level) bool {
	return l.major < o.major || l.major == o.major && l.minor < o.minor
}

// newestLevel is the level of etcd that we stand for.
func newestLevel() level {
	l, err := parseLevel(version.Etcd[:strings.LastIndexByte(version.Etcd, '.')])
	if err != nil {
		panic(err) // a constant of this program
	}
	return l
}

func (s *session) migrate(ctx context.Context, dataDir string, to level, force bool) error {
	there, err := offline.Exists(dataDir)
	if err != nil {
		return err
	}
	path := databasePath(dataDir)
	if !there {
		if _, err := os.Stat(path); err != nil {
			return err
		}
	}
	if err := checkWay(to); err != nil {
		if !force || there {
			return err
		}
		s.log.Warn("writing the version although there is no known way to it", "error", err)
	}
	if there {
		// The files of a member of ours are the same for every version of etcd's protocol. That it is at rest is checked all the same.
		lock, err := offline.Lock(dataDir)
		if err != nil {
			return err
		}
		s.log.Info("nothing to migrate: these files do not depend on etcd's version", "data-dir", dataDir)
		return lock.Close()
	}
	name := to.String() + ".0"
	if to == (level{3, 5}) {
		name = "" // it writes none
	}
	// Before it is opened for writing: a damaged one could end the process then.
	if err := s.withFile(path, func(f *etcdfile.File) error { return f.Check(ctx) }); err != nil {
		return err
	}
	if err := etcdfile.SetStorageVersion(path, name, s.timeout); err != nil {
		return err
	}
	s.log.Info("updated storage version", "new-storage-version", to.String()+".0")
	return nil
}

// checkWay says whether there is a way to a version, in etcdutl's words.
func checkWay(to level) error {
	switch newest := newestLevel(); {
	case to.major != newest.major:
		return errors.New("cannot create migration plan: changing major storage version is not supported")
	case newest.below(to):
		return fmt.Errorf("cannot create migration plan: version %q is not supported", to.String()+".0")
	}
	return nil
}
