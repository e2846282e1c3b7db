package util

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/offline"
	"github.com/ashlar-kv/ashlar/internal/progress"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

func (s *session) verifyCommand() *cobra.Command {
	var walDir string
	c := &cobra.Command{Use: "verify <directory or file>", Short: "Reads everything in a data directory, snapshot or backup, and says what is damaged",
		Args: exactly(1),
		Long: "Reads every block and every record of a stopped member's data directory, of ours or of etcd; every record of a snapshot; or\n" +
			"every file of a backup. Prints what was read, and each damage with its file and place and what to do. Changes nothing.\n" +
			"The exit status is 1 when anything is damaged."}
	c.Flags().StringVar(&walDir, "wal-dir", "", "the log's directory, where it is not below the data directory")
	c.RunE = run(func(ctx context.Context, args []string) error {
		if err := s.checkFormat(); err != nil {
			return err
		}
		return s.verify(ctx, args[0], walDir)
	})
	return c
}

// errDamaged ends a verify that has told of damage.
var errDamaged = errors.New("it is damaged; what, and what to do, is said above")

func (s *session) verify(ctx context.Context, path, walDir string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return s.verifyFile(ctx, path)
	}
	there, err := offline.Exists(path)
	if err != nil {
		return err
	}
	if there {
		return s.verifyOurs(ctx, path, walDir)
	}
	files, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(files, func(f os.DirEntry) bool { return filepath.Ext(f.Name()) == ".point" }) {
		return s.verifyBackup(ctx, path)
	}
	return s.verifyEtcd(ctx, path, walDir)
}

func (s *session) verifyOurs(ctx context.Context, dataDir, walDir string) error {
	r, err := offline.Verify(ctx, dataDir, walDir)
	if err != nil {
		return err
	}
	for _, d := range r.Damage {
		s.log.Error("damage", "what", d)
	}
	verdict := "whole"
	if len(r.Damage) > 0 {
		verdict = "DAMAGED"
	}
	num := func(n int) string { return strconv.Itoa(n) }
	entries := "none" // as in a directory that was restored and has not run
	if r.FirstEntry <= r.LastEntry {
		entries = fmt.Sprintf("%d-%d", r.FirstEntry, r.LastEntry)
	}
	err = s.print(reply{
		simple: fmt.Sprintf("%s: %s: %d tables, %s, entries %s (%d not applied), revision %d, %d records, %d versions, %d leases, %d members",
			dataDir, verdict, r.Tables, progress.Bytes(r.Bytes), entries, r.Behind, r.Revision, r.Records, r.Versions, r.Leases, r.Members),
		fields: []field{{"Damage", num(len(r.Damage))}, {"Tables", num(r.Tables)}, {"Bytes", strconv.FormatInt(r.Bytes, 10)},
			{"Entries", entries}, {"Behind", strconv.FormatUint(r.Behind, 10)}, {"Revision", strconv.FormatInt(r.Revision, 10)},
			{"Records", num(r.Records)}, {"Versions", num(r.Versions)}, {"Leases", num(r.Leases)}, {"Members", num(r.Members)}},
		json:     r,
		headings: []string{"VERDICT", "TABLES", "SIZE", "ENTRIES", "REVISION", "RECORDS", "VERSIONS"},
		row: []string{verdict, num(r.Tables), progress.Bytes(r.Bytes), entries, strconv.FormatInt(r.Revision, 10),
			num(r.Records), num(r.Versions)},
	})
	if err == nil && len(r.Damage) > 0 {
		err = errDamaged
	}
	return err
}

// verifyFile checks a snapshot's checksum, where it has one, and every record.
func (s *session) verifyFile(ctx context.Context, path string) error {
	err := etcdfile.CheckSum(ctx, path)
	if errors.Is(err, etcdfile.ErrNoSum) {
		s.log.Warn("there is no checksum at the end: damage within a value cannot be seen", "path", path)
		err = nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w; take another snapshot", path, err)
	}
	return s.withFile(path, func(f *etcdfile.File) error {
		status, err := f.Status(ctx)
		if err != nil {
			return fmt.Errorf("%w; %s", err, storage.Remedy)
		}
		r := statusReply(status)
		r.simple = path + ": whole: " + r.simple
		return s.print(r)
	})
}

// verifyEtcd reads the database and the log of a member of etcd.
func (s *session) verifyEtcd(ctx context.Context, dataDir, walDir string) error {
	path := databasePath(dataDir)
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("%s is neither a data directory nor a backup: %w", dataDir, err)
	}
	if walDir == "" {
		walDir = filepath.Join(dataDir, "member", "wal")
	}
	if err := etcdfile.ReadWAL(ctx, walDir, etcdfile.WALReader{}); err != nil {
		return fmt.Errorf("%w; %s", err, storage.Remedy)
	}
	return s.verifyFile(ctx, path)
}
