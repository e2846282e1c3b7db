package util

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/offline"
	"github.com/ashlar-kv/ashlar/internal/progress"
)

func (s *session) snapshotStatusCommand() *cobra.Command {
	var walDir string
	c := &cobra.Command{Use: "status <filename>", Short: "Prints what a snapshot or a database holds",
		Long: "Reads a whole snapshot, or a database of etcd's (DIR/member/snap/db), or the state of a stopped member of ours\n(DIR/ashlar), and sums it up."}
	c.Flags().StringVar(&walDir, "wal-dir", "", "the log's directory, of a member of ours that has it elsewhere")
	c.RunE = run(func(ctx context.Context, args []string) error {
		if len(args) != 1 {
			return badArguments("snapshot status requires exactly one argument")
		}
		if err := s.checkFormat(); err != nil {
			return err
		}
		return s.onDatabase(ctx, args[0], walDir, func(f *etcdfile.File) error {
			status, err := f.Status(ctx)
			if err != nil {
				return err
			}
			return s.print(statusReply(status))
		})
	})
	return c
}

// onDatabase calls fn with the database that a path means.
func (s *session) onDatabase(ctx context.Context, path, walDir string, fn func(*etcdfile.File) error) error {
	dataDir, ok, err := ours(path)
	switch {
	case err != nil:
		return err
	case ok:
		return s.withState(dataDir, walDir, func(d *offline.Directory) error { return s.export(ctx, d, fn) })
	default:
		return s.withFile(path, fn)
	}
}

func statusReply(s etcdfile.Status) reply {
	hash, size := strconv.FormatUint(uint64(s.Hash), 16), progress.Bytes(s.Size)
	return reply{
		simple: fmt.Sprintf("%s, %d, %d, %s, %s", hash, s.Revision, s.Keys, size, s.Version),
		fields: []field{
			{"Hash", fmt.Sprint(s.Hash)}, {"Revision", fmt.Sprint(s.Revision)}, {"Keys", fmt.Sprint(s.Keys)},
			{"Size", fmt.Sprint(s.Size)}, {"Version", s.Version},
		},
		json: struct {
			Hash      uint32 `json:"hash"`
			Revision  int64  `json:"revision"`
			TotalKey  int    `json:"totalKey"`
			TotalSize int64  `json:"totalSize"`
			Version   string `json:"version"`
		}{s.Hash, s.Revision, s.Keys, s.Size, s.Version},
		headings: []string{"HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE", "VERSION"},
		row:      []string{hash, fmt.Sprint(s.Revision), fmt.Sprint(s.Keys), size, s.Version},
	}
}
