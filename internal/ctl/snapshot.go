package ctl

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
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
	f, err := openPart(part)
	if err != nil {
		return "", err
	}
	// It is open, and thereby locked, for as long as it has that name.
	defer f.Close()
	renamed := false
	defer func() {
		if !renamed {
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
	if err := os.Rename(part, name); err != nil {
		return "", fmt.Errorf("could not rename %s to %s (%w)", part, name, err)
	}
	renamed = true
	return r.Version, syncDirectory(filepath.Dir(name))
}

// errLocked is returned for a file that another command works with.
var errLocked = errors.New("it is locked")

// openPart opens what a snapshot is written to, and locks it where that is possible: of two that write one file a mixture would be left, that the first
// took for its own. What a command that was killed has left is written anew.
func openPart(part string) (*os.File, error) {
	for {
		f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("could not open %s (%w)", part, err)
		}
		err = lockFile(f)
		if errors.Is(err, errLocked) {
			err = errors.New("another snapshot is being saved there")
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("could not lock %s: %w", part, err), f.Close())
		}
		opened, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		named, err := os.Stat(part)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(opened, named) { // who had locked it has just renamed or removed it
			_ = f.Close()
			continue
		}
		_ = f.Chmod(0o600) // where modes mean something, and what was left is ours
		if err := errors.Join(err, f.Truncate(0)); err != nil {
			return nil, errors.Join(fmt.Errorf("could not empty %s: %w", part, err), f.Close())
		}
		return f, nil
	}
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
