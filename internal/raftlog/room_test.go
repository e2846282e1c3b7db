package raftlog

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/storage"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
)

// memoryRoom is room on a filesystem in memory, on which nothing changes the size of a file. What a crash leaves of an extension is
// some of its blocks; a cut is the file before or after.
func memoryRoom(fs storage.FS) *room {
	return &room{
		step: 6000, low: 500,
		forget: func(*segment, int64, int64) {},
		shrink: func(*segment, int64) error { return errNoRoom }, // a file keeps its bytes there until it is closed
		extend: func(s *segment, more int64) error {
			_, err := s.file.WriteAt(make([]byte, more), s.end)
			return err
		},
		cut: func(s *segment) error {
			b := make([]byte, s.end)
			if _, err := s.file.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			const suffix = ".cut"
			f, err := fs.Create(s.path+suffix, vfs.WriteCategoryUnspecified)
			if err != nil {
				return err
			}
			_, err = f.Write(b)
			if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
				return err
			}
			if err := fs.Rename(s.path+suffix, s.path); err != nil {
				return err
			}
			again, err := fs.OpenReadWrite(s.path, vfs.WriteCategoryUnspecified)
			if err != nil {
				return err
			}
			old := s.file
			s.file = again
			return errors.Join(storage.SyncDir(fs, fs.PathDir(s.path)), old.Close())
		},
	}
}

func withRoom(fs storage.FS) Options { return Options{room: memoryRoom(fs)} }

func TestAStartGoesOnInASegmentThatEndsWithRoomAlone(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	l := bootstrapped(t, fs, 3, withRoom(fs))
	want := run(1, 4, 1)
	for i := uint64(4); i < 20; i++ {
		next := run(i, i+1, 1)
		must(t, l.Append(nil, next, true))
		want = append(want, next...)
		if size := len(content(t, fs, segmentPath(1))); int64(size) <= l.current.end || l.Metrics().DiskBytes != uint64(size) {
			t.Fatalf("a file of %d bytes, %d told, ends with its last record at %d", size, l.Metrics().DiskBytes, l.current.end)
		}
		fs = fs.CrashClone(vfs.CrashCloneCfg{})
		before := fs.String()
		reader := open(t, fs, Options{Storage: storage.Options{ReadOnly: true}, room: memoryRoom(fs)})
		wantLog(t, reader, Mark{Generation: 1}, want)
		must(t, reader.Close())
		if after := fs.String(); after != before {
			t.Fatalf("a read-only open has changed\n%s\nto\n%s", before, after)
		}
		l = open(t, fs, withRoom(fs))
		wantLog(t, l, Mark{Generation: 1}, want)
		if size := len(content(t, fs, segmentPath(1))); int64(size) != l.current.end {
			t.Fatalf("a start leaves a file of %d bytes, the last record ends at %d", size, l.current.end)
		}
	}
	must(t, l.Append(nil, run(20, 21, 1), true))
	must(t, l.Close())
	if size := len(content(t, fs, segmentPath(1))); int64(size) != l.current.end || !slices.Equal(numbersIn(t, fs), []uint64{1}) {
		t.Errorf("closed: %d bytes, the last record ends at %d; segments %d", size, l.current.end, numbersIn(t, fs))
	}
}

func TestASegmentThatIsEndedHasNoRoom(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	o := withRoom(fs)
	o.SegmentBytes = 10_000
	l := bootstrapped(t, fs, 3, o)
	for i := uint64(4); i < 1000; i += 10 {
		must(t, l.Append(nil, run(i, i+10, 1), true))
	}
	if len(l.segments) < 4 {
		t.Fatalf("%d segments", len(l.segments))
	}
	var total uint64
	for _, s := range l.segments {
		size := int64(len(content(t, fs, s.path)))
		if total += uint64(size); s != l.current && size != s.end {
			t.Errorf("%s has %d bytes, its last record ends at %d", s.path, size, s.end)
		}
	}
	if got := l.Metrics().DiskBytes; got != total {
		t.Errorf("the log says %d bytes, its files have %d", got, total)
	}
	wantLog(t, l, Mark{Generation: 1}, append(run(1, 4, 1), run(4, 1004, 1)...))
	must(t, l.Close())
}

// TestATornRecordInTheRoomIsLeftBehind: of a batch the pages behind the first came to the disk, the first is zeros.
func TestATornRecordInTheRoomIsLeftBehind(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	l := bootstrapped(t, mem, 3, withRoom(mem))
	end := l.current.end
	must(t, l.Append(nil, run(4, 60, 1), true))
	b := content(t, mem, segmentPath(1))
	for name, lost := range map[string][2]int64{
		"its beginning": {end, end + 100}, "its header": {end, end + headerBytes}, "its middle": {end + 200, end + 300},
		"all but its last byte": {end, l.current.end - 1}, "its last byte": {l.current.end - 1, l.current.end},
	} {
		t.Run(name, func(t *testing.T) {
			fs := mem.CrashClone(vfs.CrashCloneCfg{})
			torn := slices.Clone(b)
			clear(torn[lost[0]:lost[1]])
			overwrite(t, fs, segmentPath(1), slices.Clone(torn)) // the filesystem may change what it was given
			for range 2 {
				l := open(t, fs, withRoom(fs))
				wantLog(t, l, Mark{Generation: 1}, run(1, 4, 1))
				must(t, l.Close())
			}
			l := open(t, fs, withRoom(fs))
			must(t, l.Append(nil, run(4, 6, 2), true))
			crashed := fs.CrashClone(vfs.CrashCloneCfg{})
			again := open(t, crashed, withRoom(crashed))
			wantLog(t, again, Mark{Generation: 1}, append(run(1, 4, 1), run(4, 6, 2)...))
			must(t, errors.Join(again.Close(), l.Close()))
			if n := numbersIn(t, fs); !slices.Equal(n, []uint64{1, 2}) || !slices.Equal(content(t, fs, segmentPath(1)), torn) {
				t.Errorf("segments %d; what was torn is left %v", n, slices.Equal(content(t, fs, segmentPath(1)), torn))
			}
		})
	}
	must(t, l.Close())
}

// TestWithoutRoomTheLogGrowsAsItIsWritten: the disk has no space for room ahead, or gives a part of it.
func TestWithoutRoomTheLogGrowsAsItIsWritten(t *testing.T) {
	t.Parallel()
	for _, part := range []int64{0, 10, 3000} {
		t.Run(fmt.Sprintf("%d bytes of it were there", part), func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewMem()
			o := withRoom(fs)
			o.SegmentBytes = 10_000
			var asked atomic.Int32
			extend := o.room.extend
			o.room.extend = func(s *segment, _ int64) error {
				asked.Add(1)
				if part > 0 {
					must(t, extend(s, part))
				}
				return syscall.ENOSPC
			}
			l := bootstrapped(t, fs, 3, o)
			for i := uint64(4); i < 300; i += 3 {
				must(t, l.Append(nil, run(i, i+3, 1), true))
				if size := int64(len(content(t, fs, l.current.path))); size != l.current.end {
					t.Fatalf("%s has %d bytes, its last record ends at %d", l.current.path, size, l.current.end)
				}
			}
			if n := int(asked.Load()); n != len(l.segments) || n < 2 {
				t.Errorf("room was asked for %d times in %d segments", n, len(l.segments))
			}
			wantLog(t, l, Mark{Generation: 1}, run(1, 301, 1))
			must(t, l.Close())
		})
	}
}

// TestTheSizeThatIsToldIsThatOfTheFileOnceRoomIsRefused: what was left of the room before is cut off, too.
func TestTheSizeThatIsToldIsThatOfTheFileOnceRoomIsRefused(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	o := withRoom(fs)
	asked, extend := 0, o.room.extend
	o.room.extend = func(s *segment, more int64) error {
		if asked++; asked > 1 {
			return syscall.ENOSPC
		}
		return extend(s, more)
	}
	l := bootstrapped(t, fs, 3, o)
	for i := uint64(4); i < 300; i++ {
		must(t, l.Append(nil, run(i, i+1, 1), true))
		if size, told := uint64(len(content(t, fs, segmentPath(1)))), l.Metrics().DiskBytes; size != told {
			t.Fatalf("after %d requests for room the file has %d bytes, %d are told", asked, size, told)
		}
	}
	if asked != 2 {
		t.Errorf("room was asked for %d times", asked)
	}
	must(t, l.Close())
}

// TestRoomThatCanNotBeCutOffIsLeft: the next start begins another segment, as behind a torn tail.
func TestRoomThatCanNotBeCutOffIsLeft(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	o := withRoom(fs)
	o.room.cut = func(*segment) error { return syscall.EIO }
	var want []*raftpb.Entry
	l := bootstrapped(t, fs, 3, o)
	want = append(want, run(1, 4, 1)...)
	for i := uint64(4); i < 8; i++ {
		must(t, l.Append(nil, run(i, i+1, 1), true))
		want = append(want, run(i, i+1, 1)...)
		must(t, l.Close())
		l = open(t, fs, o)
		wantLog(t, l, Mark{Generation: 1}, want)
	}
	if n := numbersIn(t, fs); !slices.Equal(n, []uint64{1, 2, 3, 4}) {
		t.Errorf("segments %d", n)
	}
	must(t, l.Close())
}

func TestALogThatDoesNotSyncHasNoRoom(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	o := withRoom(fs)
	o.NoSync = true
	l := bootstrapped(t, fs, 3, o)
	if size := int64(len(content(t, fs, segmentPath(1)))); size != l.current.end {
		t.Errorf("%d bytes, the last record ends at %d", size, l.current.end)
	}
	must(t, l.Close())
}

// TestTheSystemForgetsTheLogButForItsNewest: each part that is on the disk once, none that is not, and all but about the newest part of the log.
func TestTheSystemForgetsTheLogButForItsNewest(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	o := withRoom(fs)
	o.SegmentBytes, o.TailBytes = 1<<20, 1
	o.room.warm = 512 << 10
	forgotten := map[uint64]int64{}
	o.room.forget = func(s *segment, from, to int64) {
		if from != forgotten[s.seq] || to <= from || to > s.synced {
			t.Errorf("of segment %d, of which %d bytes are synced, [%d, %d) is forgotten after %d", s.seq, s.synced, from, to, forgotten[s.seq])
		}
		forgotten[s.seq] = to
	}
	l := bootstrapped(t, fs, 1, o)
	for i := uint64(2); i < 402; i++ {
		e := entry(i, 1)
		e.Data = make([]byte, 10_000)
		must(t, l.Append(nil, []*raftpb.Entry{e}, true))
	}
	left := int64(0)
	for _, s := range l.segments {
		left += s.end - forgotten[s.seq]
	}
	if low, high := o.room.warm-pageBytes, o.room.warm+int64(len(l.segments)+1)*pageBytes; len(l.segments) < 4 || left < low || left > high {
		t.Errorf("%d bytes of %d segments are remembered, want %d to %d", left, len(l.segments), low, high)
	}
	must(t, l.Close())
}

// TestTheSystemForgetsWhatAStartHasRead but for the newest of it, segment by segment as it is read.
func TestTheSystemForgetsWhatAStartHasRead(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	o := withRoom(fs)
	o.SegmentBytes, o.TailBytes = 1<<20, 1
	l := bootstrapped(t, fs, 1, o)
	for i := uint64(2); i < 602; i++ {
		e := entry(i, 1)
		e.Data = make([]byte, 10_000)
		must(t, l.Append(nil, []*raftpb.Entry{e}, true))
	}
	ends := map[uint64]int64{}
	for _, s := range l.segments {
		ends[s.seq] = s.end
	}
	newest := l.current.seq
	must(t, l.Close())

	o.room.read = 5 << 19
	forgotten := map[uint64]int64{}
	o.room.forget = func(s *segment, from, to int64) {
		if from != forgotten[s.seq] || to <= from || to > ends[s.seq] || s.end != ends[s.seq] {
			t.Errorf("of segment %d, which ends at %d and is read up to %d, [%d, %d) is forgotten after %d", s.seq, ends[s.seq], s.end, from, to, forgotten[s.seq])
		}
		forgotten[s.seq] = to
	}
	l = open(t, fs, o)
	left := int64(0)
	for seq, end := range ends {
		if seq != newest { // which was read last
			left += end - forgotten[seq]
		}
	}
	if low, high := o.room.read-pageBytes, o.room.read+int64(len(ends)+1)*pageBytes; len(ends) < 5 || left < low || left > high {
		t.Errorf("%d bytes of %d segments are remembered, want %d to %d", left, len(ends), low, high)
	}
	must(t, l.Close())
}

// TestWhatARemovedSegmentTakesIsGivenBackInPieces once no crash brings its name back, unless somebody reads it still.
func TestWhatARemovedSegmentTakesIsGivenBackInPieces(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	o := withRoom(fs)
	o.SegmentBytes, o.TailBytes = 2*shrinkBytes+1, 1
	left := map[uint64][]int64{}
	o.room.shrink = func(s *segment, to int64) error {
		for _, disk := range []storage.FS{fs, fs.CrashClone(vfs.CrashCloneCfg{})} {
			if slices.Contains(numbersIn(t, disk), s.seq) {
				t.Errorf("segment %d is cut to %d bytes while it may have its name", s.seq, to)
			}
		}
		left[s.seq] = append(left[s.seq], to)
		if s.seq == 2 {
			return errNoRoom
		}
		return nil
	}
	l := bootstrapped(t, fs, 1, o)
	for i := uint64(2); len(l.segments) < 5; i++ {
		e := entry(i, 1)
		e.Data = make([]byte, 256<<10)
		must(t, l.Append(nil, []*raftpb.Entry{e}, true))
	}
	var want [5][]int64
	for i, s := range l.segments[:3] {
		for size := s.length.Load(); size > 0; {
			size = max(0, size-shrinkBytes)
			want[s.seq] = append(want[s.seq], size)
		}
		if i == 1 {
			want[s.seq] = want[s.seq][:1] // once it is refused
		}
	}
	want[4] = nil // which is read
	l.segments[3].acquire()
	read := l.segments[3]
	must(t, l.Cut(l.LastIndex()-1))
	if numbers := numbersIn(t, fs); !slices.Equal(numbers, []uint64{5}) {
		t.Errorf("segments %d are left", numbers)
	}
	for seq := uint64(1); seq < 5; seq++ {
		if !slices.Equal(left[seq], want[seq]) || seq == 1 && len(want[seq]) < 3 {
			t.Errorf("segment %d is cut to %d bytes, one after the other, want %d", seq, left[seq], want[seq])
		}
	}
	must(t, read.release())
	must(t, l.Close())
}
