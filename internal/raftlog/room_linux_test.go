package raftlog

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// TestRoomOnADisk: the newest segment takes space ahead while the log is open, and a start after a kill and a clean close cut it off.
func TestRoomOnADisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	probe, err := vfs.Default.Create(filepath.Join(dir, "probe"), vfs.WriteCategoryUnspecified)
	must(t, err)
	err = systemRoom().extend(newSegment(1, "probe", probe), 4096)
	must(t, probe.Close())
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("this filesystem does not extend files ahead: %v", err)
	}
	must(t, err)

	dir = filepath.Join(dir, "log")
	l, err := Open(dir, Options{})
	must(t, err)
	must(t, l.Bootstrap(testIdentity, HardState{Term: 1, Commit: 3}, run(1, 4, 1), 1))
	for range 3 {
		next := l.LastIndex() + 1
		must(t, l.Append(nil, run(next, next+10, 1), true))
		size, taken := onDisk(t, l.current.path)
		if size < l.current.end+roomLow || taken < size {
			t.Errorf("%d bytes that take %d, the last record ends at %d", size, taken, l.current.end)
		}
		must(t, l.closeFiles()) // as a process that is killed
		l, err = Open(dir, Options{})
		must(t, err)
		wantLog(t, l, Mark{Generation: 1}, run(1, next+10, 1))
		if size, _ := onDisk(t, l.current.path); size != l.current.end {
			t.Errorf("a start leaves %d bytes, the last record ends at %d", size, l.current.end)
		}
	}
	must(t, l.Append(nil, run(34, 35, 1), true))
	must(t, l.Close())
	if size, taken := onDisk(t, l.current.path); size != l.current.end || taken >= roomStep || l.current.seq != 1 {
		t.Errorf("closed: segment %d has %d bytes that take %d, the last record ends at %d", l.current.seq, size, taken, l.current.end)
	}
}

// onDisk returns the size of a file and the space that it takes.
func onDisk(t *testing.T, path string) (size, taken int64) {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	return info.Size(), info.Sys().(*syscall.Stat_t).Blocks * 512
}

// TestWhatTheSystemForgetsIsOnTheDisk reads it again.
func TestWhatTheSystemForgetsIsOnTheDisk(t *testing.T) {
	t.Parallel()
	r := systemRoom()
	r.warm = 0
	l, err := Open(filepath.Join(t.TempDir(), "log"), Options{TailBytes: 1, SegmentBytes: 1 << 20, room: r})
	must(t, err)
	must(t, l.Bootstrap(testIdentity, HardState{Term: 1, Commit: 1}, run(1, 2, 1), 1))
	want := run(1, 2, 1)
	for i := uint64(2); i < 60; i++ {
		e := entry(i, 1)
		e.Data = bytes.Repeat([]byte{byte(i)}, 64<<10)
		want = append(want, e)
		must(t, l.Append(nil, []*raftpb.Entry{e}, true))
	}
	if cold := l.segments[0].cold; cold < 1<<20 {
		t.Errorf("%d bytes of the first segment are forgotten", cold)
	}
	wantLog(t, l, Mark{Generation: 1}, want)
	must(t, l.Close())
}

// TestOnlyAFileWithoutANameShrinks: who has linked a segment under another name keeps all of it.
func TestOnlyAFileWithoutANameShrinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, other := filepath.Join(dir, "segment"), filepath.Join(dir, "other")
	f, err := vfs.Default.Create(path, vfs.WriteCategoryUnspecified)
	must(t, err)
	_, err = f.Write(make([]byte, 1000))
	must(t, err)
	s := newSegment(1, path, f)
	for _, step := range []struct {
		what string
		do   func() error
		want int64
	}{
		{"it has two names", func() error { return os.Link(path, other) }, 1000},
		{"it has another name", func() error { return os.Remove(path) }, 1000},
		{"it has no name", func() error { return os.Remove(other) }, 10},
	} {
		must(t, step.do())
		err := systemRoom().shrink(s, 10)
		size, serr := s.size()
		must(t, serr)
		if size != step.want || errors.Is(err, storage.ErrNamed) != (size == 1000) {
			t.Errorf("%s: %d bytes are left, %v", step.what, size, err)
		}
	}
	must(t, s.release())
}
