package ctl

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ashlar-kv/ashlar/internal/progress"
)

func (s *session) snapshotCommand() *cobra.Command {
	return s.group("snapshot <subcommand>", "Manages etcd node snapshots", s.snapshotSaveCommand())
}

func (s *session) snapshotSaveCommand() *cobra.Command {
	c := &cobra.Command{Use: "save <filename>", Short: "Writes a snapshot of one member to a file"}
	c.RunE = s.run(func(ctx context.Context, args []string) error {
		if len(args) != 1 {
			return badArguments("snapshot save expects one argument <filename>")
		}
		// A snapshot may take long: its time is limited only when that is asked for.
		limit := c.Flags().Changed("command-timeout") || s.lookup(variableOf("command-timeout")) != ""
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		if limit {
			var cancel context.CancelFunc
			ctx, cancel = s.request(ctx)
			defer cancel()
		}
		version, err := s.saveSnapshot(ctx, args[0])
		if err != nil {
			var f *failure
			if errors.As(err, &f) {
				return err
			}
			if errors.Is(ctx.Err(), context.Canceled) {
				return silent(statusSignal)
			}
			return fail(statusInterrupted, err)
		}
		fmt.Fprintf(s.Stdout, "Snapshot saved at %s\n", args[0])
		if version != "" { // servers before 3.6 say none
			fmt.Fprintf(s.Stdout, "Server version %s\n", version)
		}
		return nil
	})
	return c
}

// saveSnapshot writes a snapshot beside name and renames it when it is whole, checked and on disk. It returns the
// server's version.
func (s *session) saveSnapshot(ctx context.Context, name string) (version string, err error) {
	c, err := s.connect()
	if err != nil {
		return "", err
	}
	if endpoints := c.Endpoints(); len(endpoints) != 1 {
		return "", fmt.Errorf("snapshot must be requested to one selected node, not multiple %v", endpoints)
	}
	part := name + ".part"
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", fmt.Errorf("could not open %s (%w)", part, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(part)
		}
	}()
	r, err := c.SnapshotWithVersion(ctx)
	if err != nil {
		return "", err
	}
	defer r.Snapshot.Close()
	check := newTrailingSum(f)
	bar := s.startProgress(progress.Bytes, 0)
	defer bar.End()
	if _, err := io.Copy(io.MultiWriter(check, bar), r.Snapshot); err != nil {
		return "", fmt.Errorf("could not write snapshot: %w", err)
	}
	if err := check.verify(); err != nil {
		return "", err
	}
	if err := f.Sync(); err != nil {
		return "", fmt.Errorf("could not sync %s: %w", part, err)
	}
	if err := f.Close(); err != nil {
		return "", fmt.Errorf("could not close %s: %w", part, err)
	}
	if err := os.Rename(part, name); err != nil {
		return "", fmt.Errorf("could not rename %s to %s (%w)", part, name, err)
	}
	return r.Version, syncDirectory(filepath.Dir(name))
}

// syncDirectory makes a rename in dir last.
func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// trailingSum passes bytes on and checks that the last 32 are the SHA-256 of all before them, as in a snapshot.
type trailingSum struct {
	w    io.Writer
	sum  hash.Hash
	last []byte // not yet hashed: at most what the sum may be
	size int64
}

func newTrailingSum(w io.Writer) *trailingSum { return &trailingSum{w: w, sum: sha256.New()} }

func (t *trailingSum) Write(p []byte) (int, error) {
	t.last = append(t.last, p...)
	if n := len(t.last) - sha256.Size; n > 0 {
		t.sum.Write(t.last[:n])
		t.last = append(t.last[:0], t.last[n:]...)
	}
	n, err := t.w.Write(p)
	t.size += int64(n)
	return n, err
}

// verify is called after the last byte.
func (t *trailingSum) verify() error {
	if t.size%512 != sha256.Size { // a database is whole sectors
		return fmt.Errorf("sha256 checksum not found [bytes: %d]", t.size)
	}
	if !bytes.Equal(t.last, t.sum.Sum(nil)) {
		return fmt.Errorf("the snapshot's sha256 checksum does not fit its %d bytes: it was damaged on its way", t.size)
	}
	return nil
}
