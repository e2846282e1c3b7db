package raftlog

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

const (
	segmentSuffix = ".seg"
	tmpSuffix     = ".tmp"
)

// segment is one file of the log. It is open as long as anybody holds it; the log itself does until it is removed.
type segment struct {
	seq  uint64
	path string
	file vfs.File
	refs atomic.Int32

	length atomic.Int64 // of the file

	// The following belong to the writer.
	end    int64  // of the last record
	ahead  int64  // the file is zeros from end up to here, if that is more
	alone  bool   // it grows as it is written
	synced int64  // records before it are durable
	cold   int64  // what is before it the system was told to forget
	sum    uint32 // first checksum of the last record, which the next one names
}

func segmentName(seq uint64) string { return fmt.Sprintf("%016x%s", seq, segmentSuffix) }

// parseSegmentName returns the number in the name of a segment.
func parseSegmentName(name string) (seq uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(digits) != 16 {
		return 0, false
	}
	seq, err := strconv.ParseUint(digits, 16, 64)
	return seq, err == nil && seq > 0 && segmentName(seq) == name
}

func newSegment(seq uint64, path string, f vfs.File) *segment {
	s := &segment{seq: seq, path: path, file: f}
	s.refs.Store(1)
	return s
}

// openSegment opens a segment that is there.
func openSegment(fs storage.FS, dir string, seq uint64, write bool) (*segment, error) {
	path := fs.PathJoin(dir, segmentName(seq))
	var f vfs.File
	var err error
	if write {
		f, err = fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	} else {
		f, err = fs.Open(path)
	}
	if err != nil {
		return nil, fmt.Errorf("open a segment of the log: %w", err)
	}
	return newSegment(seq, path, f), nil
}

// createSegment makes a segment with its first record under its temporary name. It is not there until keep.
func createSegment(fs storage.FS, dir string, seq uint64, begin record, chain uint32) (*segment, error) {
	path := fs.PathJoin(dir, segmentName(seq))
	f, err := fs.Create(path+tmpSuffix, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("create a segment of the log: %w", err)
	}
	s := newSegment(seq, path, f)
	s.sum = chain
	var w writer
	if _, err = w.write(s, &begin); err != nil {
		return nil, errors.Join(err, s.release())
	}
	return s, nil
}

// keep makes a segment that was created durable, under its own name.
func (s *segment) keep(fs storage.FS, dir string) error {
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", s.path+tmpSuffix, err)
	}
	if err := fs.Rename(s.path+tmpSuffix, s.path); err != nil {
		return fmt.Errorf("name a segment of the log: %w", err)
	}
	s.synced = s.end
	s.length.Store(s.end)
	return storage.SyncDir(fs, dir)
}

// sync makes all records durable.
func (s *segment) sync() error {
	if err := s.file.SyncData(); err != nil {
		return fmt.Errorf("sync %s: %w", s.path, err)
	}
	s.synced = s.end
	return nil
}

// size returns the length of the file.
func (s *segment) size() (int64, error) {
	info, err := s.file.Stat()
	if err != nil {
		return 0, fmt.Errorf("%w the size of %s: %w", errRead, s.path, err)
	}
	return info.Size(), nil
}

func (s *segment) acquire() { s.refs.Add(1) }

// release closes the file once nobody holds it.
func (s *segment) release() error {
	if s.refs.Add(-1) > 0 {
		return nil
	}
	if err := s.file.Close(); err != nil {
		return fmt.Errorf("close %s: %w", s.path, err)
	}
	return nil
}
