package util

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/offline"
	"github.com/ashlar-kv/ashlar/internal/restore"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

const defaultPeerURL = "http://localhost:2380"

// membership is what the flags say of the restored member and its cluster.
type membership struct {
	dataDir, walDir, name, initialCluster, token, peerURLs string
	bump                                                   uint64
	markCompacted                                          bool
}

func (m *membership) define(f *pflag.FlagSet) {
	f.StringVar(&m.dataDir, "data-dir", "", "directory to restore to; it must be empty or not exist (default NAME.etcd)")
	f.StringVar(&m.walDir, "wal-dir", "", "directory of the log; it must not exist (default: below the data directory)")
	f.StringVar(&m.name, "name", config.DefaultName, "name of this member")
	f.StringVar(&m.initialCluster, "initial-cluster", config.DefaultName+"="+defaultPeerURL, "members of the restored cluster")
	f.StringVar(&m.token, "initial-cluster-token", "etcd-cluster", "token of the restored cluster")
	f.StringVar(&m.peerURLs, "initial-advertise-peer-urls", defaultPeerURL, "addresses of this member for the others")
	f.Uint64Var(&m.bump, "bump-revision", 0, "how much to raise the revision after restoring")
	f.BoolVar(&m.markCompacted, "mark-compacted", false,
		"count everything up to the raised revision as compacted (needed with --bump-revision)")
}

func (s *session) snapshotRestoreCommand() *cobra.Command {
	var m membership
	var skipCheck bool
	c := &cobra.Command{Use: "restore <filename>", Short: "Restores a snapshot to the data directory of a new cluster's member"}
	m.define(c.Flags())
	c.Flags().BoolVar(&skipCheck, "skip-hash-check", false, "do not ask for the checksum at the end (for a copied database file)")
	c.Flags().Uint64("initial-memory-map-size", 10<<30, "accepted for etcdutl's sake: nothing is mapped")
	c.RunE = run(func(ctx context.Context, args []string) error {
		if len(args) != 1 {
			return badArguments("snapshot restore requires exactly one argument")
		}
		if (m.bump > 0) != m.markCompacted {
			return badArguments("--mark-compacted required if --revision-bump > 0")
		}
		t, err := m.target(ctx)
		if err != nil {
			return err
		}
		t.DatabaseFile = true
		if skipCheck {
			if _, err := os.Stat(args[0]); err != nil {
				return err
			}
		} else if err := etcdfile.CheckSum(ctx, args[0]); err != nil {
			return err
		}
		return s.restoreFile(ctx, args[0], t)
	})
	return c
}

// restoreFile restores and says what became of the revision.
func (s *session) restoreFile(ctx context.Context, path string, t restore.Target) error {
	s.log.Info("restoring a snapshot", "path", path, "data-dir", t.DataDir, "wal-dir", t.WALDir)
	return s.withFile(path, func(f *etcdfile.File) error {
		if err := f.Check(ctx); err != nil {
			return err
		}
		if err := checkLevel(f); err != nil {
			return err
		}
		r, err := restore.Run(ctx, f, t)
		if err != nil {
			return err
		}
		s.log.Info("restored", "data-dir", t.DataDir, "cluster", cluster.ID(r.Identity.ClusterID).String(),
			"member", t.Self.String(), "revision", r.Revision)
		if r.Revision > r.Was {
			s.log.Info("the revision was raised; whoever saw the old cluster is told that what he saw is compacted",
				"from", r.Was, "to", r.Revision)
		} else {
			s.log.Warn("the revision goes on from that of the snapshot: if the old cluster wrote after it was taken, its clients "+
				"have seen higher ones and would take old for new; raise it by --bump-revision with --mark-compacted", "revision", r.Revision)
		}
		return nil
	})
}

// checkLevel refuses a database of an etcd that came after the one we stand for: what it holds beyond that would be lost.
func checkLevel(f *etcdfile.File) error {
	meta, err := f.Meta()
	if err != nil {
		return err
	}
	for _, text := range []string{meta.StorageVersion, meta.ClusterVersion} {
		if text == "" {
			continue
		}
		l, err := parseLevel(withoutPatch(text))
		if err != nil {
			return fmt.Errorf("the snapshot's version %q: %w", text, err)
		}
		if newestLevel().below(l) {
			return fmt.Errorf("the snapshot is of etcd %s, this release goes up to %s", text, newestLevel())
		}
	}
	return nil
}

// target checks what the flags say, in etcdutl's order, and that there is nothing at the target.
func (m *membership) target(ctx context.Context) (restore.Target, error) {
	none := restore.Target{}
	advertised, err := config.ParseURLs(m.peerURLs)
	if err != nil {
		return none, err
	}
	c := config.Config{Name: m.name, InitialCluster: m.initialCluster, AdvertisePeerURLs: advertised}
	members, err := c.InitialMembers()
	if err != nil {
		return none, errors.Unwrap(err)
	}
	if m.name == "" || !slices.ContainsFunc(members, func(x config.InitialMember) bool { return x.Name == m.name }) {
		return none, fmt.Errorf("couldn't find local name %q in the initial cluster configuration", m.name)
	}
	if err := c.CheckBootstrap(ctx); err != nil {
		return none, err
	}
	initial, err := cluster.ParseInitialCluster(m.initialCluster)
	if err != nil {
		return none, err
	}
	founding, err := cluster.Found(initial, m.token)
	if err != nil {
		return none, err
	}
	self, ok := founding.ByName(m.name)
	if !ok {
		return none, fmt.Errorf("couldn't find local name %q in the initial cluster configuration", m.name)
	}
	t := restore.Target{DataDir: m.dataDir, WALDir: m.walDir, Self: self.ID,
		Start: etcdfile.Start{Founding: founding, Bump: m.bump}}
	if t.DataDir == "" {
		t.DataDir = m.name + ".etcd"
	}
	return t, checkEmpty(t)
}

// checkEmpty refuses a target that holds anything.
func checkEmpty(t restore.Target) error {
	names, err := os.ReadDir(t.DataDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) || len(names) > 0 {
		refused := fmt.Errorf("data-dir %q not empty or could not be read", t.DataDir)
		if _, err := offline.Open(t.DataDir, t.WALDir, nil); errors.Is(err, storage.ErrUnfinished) {
			refused = fmt.Errorf("%w: %w", refused, err)
		}
		return refused
	}
	if t.WALDir != "" {
		if _, err := os.Stat(t.WALDir); err == nil {
			return fmt.Errorf("wal-dir %q exists", t.WALDir)
		}
	}
	return nil
}
