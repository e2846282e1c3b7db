package util

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/coreos/go-semver/semver"
	"github.com/spf13/cobra"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/offline"
	"github.com/ashlar-kv/ashlar/internal/version"
)

func (s *session) migrateCommand() *cobra.Command {
	var dataDir, walDir, target string
	var force bool
	c := &cobra.Command{Use: "migrate", Short: "Makes a stopped member's files fit for another version of etcd"}
	c.Flags().StringVar(&dataDir, "data-dir", "", "the member's data directory, of etcd or of ours")
	c.Flags().StringVar(&walDir, "wal-dir", "", "the log's directory, where it is not below the data directory")
	c.Flags().StringVar(&target, "target-version", "", `version to make the files fit for, "X.Y", from 3.5 on`)
	c.Flags().BoolVar(&force, "force", false, "write the version even where no way to it is known")
	_ = c.MarkFlagRequired("data-dir") // the flags are there
	_ = c.MarkFlagRequired("target-version")
	c.RunE = run(func(ctx context.Context, _ []string) error {
		if strings.Count(target, ".") != 1 {
			return badArguments("wrong target version format, expected \"X.Y\", got %q", target)
		}
		v, err := semver.NewVersion(target + ".0")
		if err != nil {
			return badArguments("failed to parse target version: %w", err)
		}
		to := level{uint64(v.Major), uint64(v.Minor)}
		if to.below(firstLevel) {
			return badArguments("target version %q not supported. Minimal \"3.5\"", target)
		}
		return s.migrate(ctx, dataDir, walDir, to, force)
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

// withoutPatch cuts a version's patch off.
func withoutPatch(version string) string {
	return version[:max(0, strings.LastIndexByte(version, '.'))]
}

func (l level) String() string { return fmt.Sprintf("%d.%d", l.major, l.minor) }

func (l level) below(o level) bool {
	return l.major < o.major || l.major == o.major && l.minor < o.minor
}

// firstLevel is the lowest that files are migrated to.
var firstLevel = level{3, 5}

// newestLevel is the level of etcd that we stand for.
func newestLevel() level {
	l, err := parseLevel(withoutPatch(version.Etcd))
	if err != nil {
		panic(err) // a constant of this program
	}
	return l
}

func (s *session) migrate(ctx context.Context, dataDir, walDir string, to level, force bool) error {
	there, err := offline.Exists(dataDir)
	if err != nil {
		return err
	}
	if there {
		return s.migrateOurs(dataDir, to)
	}
	path := databasePath(dataDir)
	if _, err := os.Stat(path); err != nil {
		return err
	}
	if walDir == "" {
		walDir = filepath.Join(dataDir, "member", "wal")
	}
	inLog, err := logLevel(ctx, walDir, filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("failed to read wal: %w", err)
	}
	from, err := s.checkedLevel(ctx, path)
	if err != nil {
		return err
	}
	if from == to {
		s.log.Info("storage version up-to-date", "storage-version", to.String())
		return nil
	}
	refused := checkWay(from, to)
	if refused == nil && to.below(from) && to.below(inLog) {
		refused = errors.New("cannot downgrade storage, WAL contains newer entries")
	}
	if refused == nil {
		if err := s.setLevel(path, to); err != nil {
			return err
		}
		s.log.Info("updated storage version", "new-storage-version", to.String()+".0")
		return nil
	}
	if !force {
		return refused
	}
	s.log.Info("normal migrate failed, trying with force", "error", refused)
	if err := s.setLevel(path, to); err != nil {
		return err
	}
	s.log.Warn("forcefully set storage version", "storage-version", to.String())
	return nil
}

// checkedLevel returns the level of a database all of which it has read: a damaged one could end the process once it is opened for writing.
func (s *session) checkedLevel(ctx context.Context, path string) (l level, err error) {
	err = s.withFile(path, func(f *etcdfile.File) error {
		if err := f.Check(ctx); err != nil {
			return err
		}
		l, err = fileLevel(f)
		return err
	})
	return l, err
}

// setLevel writes the level into a database.
func (s *session) setLevel(path string, to level) error {
	name := to.String() + ".0"
	if to == firstLevel {
		name = "" // it writes none
	}
	return etcdfile.SetStorageVersion(path, name, s.timeout)
}

// migrateOurs does nothing: the files of a member of ours are the same for every version of etcd's protocol. That it is at rest
// is checked all the same.
func (s *session) migrateOurs(dataDir string, to level) error {
	if err := checkWay(newestLevel(), to); err != nil {
		return err
	}
	lock, err := offline.Lock(dataDir)
	if err != nil {
		return err
	}
	s.log.Info("nothing to migrate: these files do not depend on etcd's version", "data-dir", dataDir)
	return lock.Close()
}

// fileLevel returns the level of a database, in etcdutl's words where it has none.
func fileLevel(f *etcdfile.File) (level, error) {
	meta, err := f.Meta()
	switch {
	case err != nil:
		return level{}, err
	case meta.StorageVersion != "":
		return parseLevel(withoutPatch(meta.StorageVersion))
	case meta.ConfState == nil:
		return level{}, errors.New("missing confstate information")
	case meta.Term == 0:
		return level{}, errors.New("missing term information")
	}
	return firstLevel, nil // which did not write its version
}

// checkWay says whether there is a way from one level to another, in etcdutl's words.
func checkWay(from, to level) error {
	highest := to
	if highest.below(from) {
		highest = from
	}
	switch newest := newestLevel(); {
	case to.major != from.major:
		return errors.New("cannot create migration plan: changing major storage version is not supported")
	case newest.below(highest):
		return fmt.Errorf("cannot create migration plan: version %q is not supported", highest.String()+".0")
	}
	return nil
}
