package util

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/ashlar-kv/ashlar/internal/backup"
	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/offline"
	"github.com/ashlar-kv/ashlar/internal/progress"
)

func (s *session) backupCommand() *cobra.Command {
	c := &cobra.Command{Use: "backup <subcommand>", Short: "Keeps points in time of a cluster in a directory"}
	c.AddCommand(s.backupCreateCommand(), s.backupListCommand(), s.backupExportCommand(), s.backupPruneCommand())
	return c
}

// sourceFlags say what to back up.
type sourceFlags struct {
	live            connection
	dataDir, walDir string
	snapshot        string
	full            bool
}

func (s *session) backupCreateCommand() *cobra.Command {
	var f sourceFlags
	c := &cobra.Command{Use: "create <backup>", Short: "Adds a point to a backup: the first one full, then increments", Args: exactly(1),
		Long: "Adds a point in time to the backup in a directory, from a running member (--endpoints), of Ashlar or etcd, or from the data\n" +
			"directory of a stopped one (--data-dir), or from a snapshot file (--snapshot). The first point is full, others hold what\n" +
			"is new since the one before. What an interrupted run had fetched becomes a point first."}
	f.live.define(c.Flags())
	c.Flags().StringVar(&f.dataDir, "data-dir", "", "data directory of a stopped member of ours, in place of --endpoints")
	c.Flags().StringVar(&f.walDir, "wal-dir", "", "the log's directory of that member, where it is elsewhere")
	c.Flags().StringVar(&f.snapshot, "snapshot", "", "snapshot file, in place of --endpoints")
	c.Flags().BoolVar(&f.full, "full", false, "make a full point")
	c.RunE = run(func(ctx context.Context, args []string) error {
		if err := s.checkFormat(); err != nil {
			return err
		}
		if f.dataDir != "" && (f.snapshot != "" || c.Flags().Changed("endpoints")) || f.snapshot != "" && c.Flags().Changed("endpoints") {
			return badArguments("only one of --endpoints, --data-dir and --snapshot can be backed up")
		}
		src, err := s.source(ctx, &f)
		if err != nil {
			return err
		}
		transferred := false
		if open := src.Open; open != nil {
			src.Open = func(ctx context.Context, have backup.Piece) (backup.Transfer, error) {
				transferred = true
				return open(ctx, have)
			}
		}
		for {
			o := backup.Options{Full: f.full, Now: clock.Real().Now(), Logger: s.log}
			p, err := backup.Create(ctx, args[0], src, o)
			if err != nil {
				return err
			}
			if transferred && p.Taken.Before(o.Now) {
				s.log.Warn("the point is of when the cut transfer began; what was written later is in the next one", "taken", p.Taken)
			}
			if err := s.print(pointReply(p)); err != nil || transferred || p.Taken.Equal(o.Now) {
				return err
			}
		}
	})
	return c
}

// source returns what the flags ask to back up.
func (s *session) source(ctx context.Context, f *sourceFlags) (backup.Source, error) {
	switch {
	case f.snapshot != "":
		return backup.Source{Fetch: func(ctx context.Context, path string) error { return s.copySnapshot(ctx, f.snapshot, path) }}, nil
	case f.dataDir != "":
		return s.stoppedSource(f)
	default:
		return f.live.source(ctx)
	}
}

// copySnapshot copies a snapshot file, whose checksum must be there: a database that was copied may have been written meanwhile.
func (s *session) copySnapshot(ctx context.Context, from, to string) error {
	if err := etcdfile.CheckSum(ctx, from); err != nil {
		return err
	}
	return copyTo(ctx, to, from)
}

// stoppedSource is a member of ours that does not run.
func (s *session) stoppedSource(f *sourceFlags) (src backup.Source, err error) {
	err = s.withState(f.dataDir, f.walDir, func(d *offline.Directory) error {
		src.Cluster = cluster.ID(d.Identity.ClusterID).String()
		return checkSource(d)
	})
	src.Fetch = func(ctx context.Context, path string) error {
		return s.withState(f.dataDir, f.walDir, func(d *offline.Directory) (err error) {
			if err := checkSource(d); err != nil {
				return err
			}
			c, err := etcdfile.Read(d.State)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, c.Close()) }()
			if _, err := c.Write(ctx, path); err != nil {
				return err
			}
			return etcdfile.AppendSum(ctx, path)
		})
	}
	return src, err
}

// checkSource refuses a state that is wrong, or not all that the member has.
func checkSource(d *offline.Directory) error {
	if n := d.Behind(); n > 0 {
		return fmt.Errorf("the member in %s was not stopped: %d committed entries are not applied yet; start it and stop it, or back it up while it runs",
			d.DataDir, n)
	}
	return d.CheckTrusted()
}

func kindOf(p backup.Point) string {
	if p.Full() {
		return "full"
	}
	return "increment to " + strconv.Itoa(p.Parent)
}

func pointReply(p backup.Point) reply {
	taken := p.Taken.Format(time.RFC3339)
	return reply{
		simple: fmt.Sprintf("point %d: %s, revision %d, %d versions, %s, taken %s", p.Number, kindOf(p), p.Revision, p.Versions, progress.Bytes(p.Bytes()), taken),
		fields: []field{{"Number", strconv.Itoa(p.Number)}, {"Parent", strconv.Itoa(p.Parent)}, {"Revision", strconv.FormatInt(p.Revision, 10)},
			{"Compact revision", strconv.FormatInt(p.Compacted, 10)}, {"Versions", strconv.FormatInt(p.Versions, 10)},
			{"Bytes", strconv.FormatInt(p.Bytes(), 10)}, {"Taken", taken}},
		json:     p,
		headings: []string{"POINT", "KIND", "REVISION", "VERSIONS", "SIZE", "TAKEN"},
		row: []string{strconv.Itoa(p.Number), kindOf(p), strconv.FormatInt(p.Revision, 10), strconv.FormatInt(p.Versions, 10),
			progress.Bytes(p.Bytes()), taken},
	}
}

func (s *session) backupListCommand() *cobra.Command {
	return &cobra.Command{Use: "list <backup>", Short: "Prints the points of a backup, the oldest first", Args: exactly(1),
		RunE: run(func(_ context.Context, args []string) error {
			if err := s.checkFormat(); err != nil {
				return err
			}
			all, err := backup.Points(args[0], func(_ int, err error) error { s.log.Error("damage", "what", err.Error()); return nil })
			for _, p := range all {
				if err := s.print(pointReply(p)); err != nil {
					return err
				}
			}
			return err
		})}
}

func (s *session) backupExportCommand() *cobra.Command {
	var number int
	c := &cobra.Command{Use: "export <backup> <file>", Short: "Writes a point as a snapshot file, for us and for etcd", Args: exactly(2)}
	c.Flags().IntVar(&number, "point", 0, "number of the point (0: the newest)")
	c.RunE = run(func(ctx context.Context, args []string) error {
		if err := s.checkFormat(); err != nil {
			return err
		}
		p, err := backup.Export(ctx, args[0], number, args[1])
		if err != nil {
			return err
		}
		return s.print(pointReply(p))
	})
	return c
}

func (s *session) backupPruneCommand() *cobra.Command {
	var keep int
	c := &cobra.Command{Use: "prune <backup>", Short: "Removes old points: all before the newest full ones that are kept", Args: exactly(1)}
	c.Flags().IntVar(&keep, "keep-full", 0, "how many full points to keep, with their increments")
	_ = c.MarkFlagRequired("keep-full") // the flag is there
	c.RunE = run(func(_ context.Context, args []string) error {
		removed, err := backup.Prune(args[0], keep)
		for _, p := range removed {
			s.log.Info("removed a point", "point", p.Number, "taken", p.Taken)
		}
		return err
	})
	return c
}

func (s *session) verifyBackup(ctx context.Context, dir string) error {
	damage := 0
	all, err := backup.Verify(ctx, dir, func(n int, err error) error {
		damage++
		s.log.Error("damage", "point", n, "what", err.Error(),
			"do", "points made of it cannot be restored; the others can (--point); make a full point now (backup create --full)")
		return nil
	})
	if err != nil {
		return err
	}
	for _, p := range all {
		if err := s.print(pointReply(p)); err != nil {
			return err
		}
	}
	if damage > 0 {
		return errDamaged
	}
	return nil
}

func (s *session) restoreCommand() *cobra.Command {
	var m membership
	var number int
	var keep bool
	c := &cobra.Command{Use: "restore <backup>", Short: "Restores a point of a backup to the data directory of a new cluster's member", Args: exactly(1),
		Long: "Restores a point of a backup to a member's data directory. What becomes of the revision is to be said: clients that have seen a\n" +
			"higher one than that of the point take old for new. --bump-revision N with --mark-compacted raises it, by more than was written\n" +
			"since the point was taken; --keep-revision goes on from the point's, for when nobody has seen higher ones."}
	m.define(c.Flags())
	c.Flags().IntVar(&number, "point", 0, "number of the point (0: the newest)")
	c.Flags().BoolVar(&keep, "keep-revision", false, "go on from the point's revision")
	c.RunE = run(func(ctx context.Context, args []string) error {
		switch {
		case (m.bump > 0) != m.markCompacted:
			return badArguments("--bump-revision and --mark-compacted go together")
		case keep == (m.bump > 0):
			return badArguments("say what becomes of the revision: --keep-revision, or --bump-revision N with --mark-compacted")
		}
		t, err := m.target(ctx)
		if err != nil {
			return err
		}
		return s.restorePoint(ctx, args[0], number, func(path string) error { return s.restoreFile(ctx, path, t) }, t.DataDir)
	})
	return c
}

// restorePoint writes a point as a file beside the data directory, for as long as fn uses it.
func (s *session) restorePoint(ctx context.Context, dir string, number int, fn func(path string) error, dataDir string) (err error) {
	temp, err := os.MkdirTemp(filepath.Dir(filepath.Clean(dataDir)), "restoring-")
	if err != nil {
		return fmt.Errorf("make a directory for the content: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	path := filepath.Join(temp, "point.db")
	p, err := backup.Export(ctx, dir, number, path)
	if err != nil {
		return err
	}
	s.log.Info("restoring a point", "point", p.Number, "taken", p.Taken, "revision", p.Revision)
	return fn(path)
}
