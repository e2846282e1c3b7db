package etcdfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/raft/v3/raftpb"
)

// ErrCorruptWAL is wrapped by errors about a write-ahead log of etcd that is damaged other than by a torn tail. They
// name the file and the offset.
var ErrCorruptWAL = errors.New("etcdfile: the write-ahead log is damaged")

// walSuffix ends the names of the files of a log; others beside them are not looked at, as in etcd.
const walSuffix = ".wal"

// WALSnapshot is a record that a snapshot of the state was taken or received.
type WALSnapshot struct {
	Index, Term uint64
	// ConfState is raft's configuration then, nil where etcd did not write it.
	ConfState *raftpb.ConfState
}

// WALReader takes what a log holds, in order. A nil function takes nothing. The error of one ends the reading.
type WALReader struct {
	// Identity is called with each file's ids; they are the same in all.
	Identity func(member, cluster uint64) error
	// Entry is called with each entry. One whose index was there before replaces that one and all after it.
	Entry func(e *raftpb.Entry) error
	// HardState is called with each hard state; the last one counts.
	HardState func(hs *raftpb.HardState) error
	// Snapshot is called with each record of a snapshot.
	Snapshot func(s WALSnapshot) error
}

// HasWAL tells whether a directory holds a log.
func HasWAL(dir string) (bool, error) {
	names, err := walNames(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return len(names) > 0, err
}

// ReadWAL reads a log of etcd's. It changes nothing. A tail that was torn by a crash ends the last file, as etcd takes it; all
// other damage is an error that wraps ErrCorruptWAL.
func ReadWAL(ctx context.Context, dir string, r WALReader) error {
	names, err := walNames(dir)
	if err != nil {
		return fmt.Errorf("list the write-ahead log: %w", err)
	}
	if len(names) == 0 {
		return fmt.Errorf("read the write-ahead log: no file in %s: %w", dir, fs.ErrNotExist)
	}
	w := walReading{to: r}
	for i, name := range names {
		seq, _ := walNumber(name)
		if i > 0 && seq != w.seq+1 {
			return fmt.Errorf("%w: %s: the file before it, number %d, is missing", ErrCorruptWAL, filepath.Join(dir, name), seq-1)
		}
		w.seq = seq
		if err := w.file(ctx, filepath.Join(dir, name), i == len(names)-1); err != nil {
			return err
		}
	}
	return nil
}

// walNames returns the names of a log's files, in order.
func walNames(dir string) (names []string, err error) {
	all, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		if _, ok := walNumber(e.Name()); ok {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// walNumber returns the number of a file of the log. The name is this and the index that the file begins with, in 16 hexadecimal digits each.
func walNumber(name string) (seq uint64, ok bool) {
	numbers, ok := strings.CutSuffix(name, walSuffix)
	first, second, cut := strings.Cut(numbers, "-")
	if !ok || !cut || len(first) != 16 || len(second) != 16 {
		return 0, false
	}
	seq, err := strconv.ParseUint(first, 16, 64)
	_, indexErr := strconv.ParseUint(second, 16, 64)
	return seq, err == nil && indexErr == nil
}
