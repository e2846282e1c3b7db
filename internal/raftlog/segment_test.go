package raftlog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/storage"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"
)

// numbersIn returns the numbers of the segments that are on the disk.
func numbersIn(t testing.TB, fs storage.FS) []uint64 {
	t.Helper()
	names, err := fs.List(testDir)
	must(t, err)
	return segmentNumbers(names)
}

func TestACutRemovesTheSegmentsThatHoldNothingAnyMore(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	segmented(t, fs)
	l := open(t, fs, Options{SegmentBytes: 1000, TailBytes: 1})
	for at := uint64(1); at <= 100; at++ {
		must(t, l.Cut(at))
		numbers := numbersIn(t, fs)
		if len(numbers) != len(l.segments) || numbers[0] != l.segments[0].seq {
			t.Fatalf("cut at %d: segments %d on the disk, %d in memory", at, numbers, len(l.segments))
		}
		// A power cut that leaves nothing unsynced, whether names that were removed come back or not.
		crashed := open(t, fs.CrashClone(vfs.CrashCloneCfg{}), Options{})
		mark := crashed.Mark().Index
		if mark > at || crashed.LastIndex() != 100 {
			t.Fatalf("after a cut at %d and a crash the log is [%d, %d]", at, mark+1, crashed.LastIndex())
		}
		wantLog(t, crashed, Mark{mark, min(mark, 1), 1}, run(mark+1, 101, 1))
		must(t, crashed.Close())
		wantLog(t, l, Mark{at, 1, 1}, run(at+1, 101, 1))
	}
	if numbers := numbersIn(t, fs); len(numbers) != 1 || numbers[0] != l.current.seq {
		t.Errorf("a log without entries has the segments %d", numbers)
	}
	must(t, l.Append(nil, run(101, 103, 2), true))
	must(t, l.Close())
	l = open(t, fs, Options{})
	wantLog(t, l, Mark{100, 1, 1}, run(101, 103, 2))
	must(t, l.Close())
}

// TestACutOfAllLeavesNothingToRead: it begins another segment.
func TestACutOfAllLeavesNothingToRead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		segment int64
		cut     func(*Log, uint64) error
		cutAt   uint64
		worth   bool
		want    []uint64
	}{
		"little is there":  {1 << 20, (*Log).CutAll, 100, false, []uint64{2}},
		"all of an eighth": {8 << 10, (*Log).CutAll, 100, true, []uint64{2}},
		"an entry is left": {8 << 10, (*Log).CutAll, 99, true, []uint64{1}},
		"a cut like any":   {8 << 10, (*Log).Cut, 100, true, []uint64{1}},
	} {
		fs := vfs.NewCrashableMem()
		l := bootstrapped(t, fs, 100, Options{SegmentBytes: c.segment})
		if l.WorthEmptying() != c.worth {
			t.Errorf("%s: worth emptying: %v", name, !c.worth)
		}
		must(t, c.cut(l, c.cutAt))
		if numbers := numbersIn(t, fs); !slices.Equal(numbers, c.want) {
			t.Errorf("%s: the segments are %d, want %d", name, numbers, c.want)
		}
		must(t, l.Append(nil, run(101, 103, 2), true))
		crashed := open(t, fs.CrashClone(vfs.CrashCloneCfg{}), Options{})
		wantLog(t, crashed, Mark{c.cutAt, 1, 1}, append(run(c.cutAt+1, 101, 1), run(101, 103, 2)...))
		must(t, crashed.Close())
		must(t, l.Close())
	}
}

// TestWhatItTakesToKeepTheLogIsKnown but for the point that is before an entry and what is at the beginning of segments.
func TestWhatItTakesToKeepTheLogIsKnown(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	segmented(t, fs)
	l := open(t, fs, Options{SegmentBytes: 1000})
	all := l.Metrics().DiskBytes
	if got := l.BytesFrom(1); got >= all || got+500 < all {
		t.Errorf("the whole log takes %d bytes, and from its first entry on %d", all, got)
	}
	before, steps := all, 0
	for i := uint64(1); i <= 100; i++ {
		got := l.BytesFrom(i)
		if got > before || got == 0 {
			t.Fatalf("from entry %d on there are %d bytes, from the one before %d", i, got, before)
		}
		if got < before {
			steps++
		}
		before = got
	}
	if steps < 6 || before > 1500 {
		t.Errorf("%d segments, and %d bytes from the last entry on", steps, before)
	}
	if got := l.BytesFrom(101); got != 0 {
		t.Errorf("behind the last entry there are %d bytes", got)
	}
	for i := uint64(1); i <= 100; i++ {
		bytes := l.BytesFrom(i)
		if from := l.Within(bytes); from > i || l.BytesFrom(from) != bytes {
			t.Errorf("%d bytes are kept from entry %d on, not from %d", bytes, i, from)
		}
		if from := l.Within(bytes - 1); from <= i && i < 100 || l.BytesFrom(from) >= bytes && from < 100 {
			t.Errorf("less than %d bytes are kept from entry %d on", bytes, from)
		}
	}
	if first, last := l.Within(all), l.Within(0); first != 1 || last != 100 {
		t.Errorf("all is kept from entry %d on, and next to nothing from %d on", first, last)
	}
	must(t, l.Cut(40))
	middle := l.BytesFrom(60) - l.BytesFrom(90)
	must(t, l.Cut(50))
	if got := l.BytesFrom(60) - l.BytesFrom(90); got != middle {
		t.Errorf("between two entries there are %d bytes after a cut below them, before it %d", got, middle)
	}
	if got := l.BytesFrom(10); got != l.BytesFrom(51) {
		t.Errorf("from an entry that was cut off on there are %d bytes, and %d in all", got, l.BytesFrom(51))
	}
	must(t, l.Cut(100))
	if got, from := l.BytesFrom(51), l.Within(0); got != 0 || from != 101 {
		t.Errorf("a log without entries has %d bytes, from entry %d on", got, from)
	}
	must(t, l.Close())
}

func TestAStartGoesOnInTheNewestSegmentUnlessItIsTorn(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	l := bootstrapped(t, fs, 3, Options{})
	must(t, l.Close())
	for i := uint64(4); i < 30; i++ {
		l = open(t, fs, Options{})
		must(t, l.Append(nil, run(i, i+1, 1), true))
		must(t, l.Close())
	}
	if n := numbersIn(t, fs); !slices.Equal(n, []uint64{1}) {
		t.Fatalf("segments %d", n)
	}
	b := content(t, fs, segmentPath(1))
	overwrite(t, fs, segmentPath(1), append(b, 0, 0, 0)) // as a write that did not get through
	for range 3 {
		l = open(t, fs, Options{})
		wantLog(t, l, Mark{0, 0, 1}, run(1, 30, 1))
		must(t, l.Close())
	}
	if n := numbersIn(t, fs); !slices.Equal(n, []uint64{1}) {
		t.Fatalf("a start that writes nothing makes the segments %d", n)
	}
	l = open(t, fs, Options{})
	must(t, l.Append(nil, run(30, 31, 1), true))
	must(t, l.Close())
	l = open(t, fs, Options{})
	wantLog(t, l, Mark{0, 0, 1}, run(1, 31, 1))
	must(t, l.Append(nil, run(31, 32, 1), true))
	must(t, l.Close())
	if n := numbersIn(t, fs); !slices.Equal(n, []uint64{1, 2}) {
		t.Fatalf("segments %d", n)
	}
	if got := content(t, fs, segmentPath(1)); len(got) != len(b)+3 {
		t.Errorf("the torn segment has %d bytes of %d", len(got), len(b)+3)
	}
}

func TestSegmentsThatComeBackAreRemoved(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 20 {
		fs := vfs.NewMem()
		segmented(t, fs)
		old := map[uint64][]byte{}
		for _, n := range numbersIn(t, fs) {
			old[n] = content(t, fs, segmentPath(n))
		}
		l := open(t, fs, Options{SegmentBytes: 1000})
		must(t, l.Cut(70))
		must(t, l.Close())
		left := numbersIn(t, fs)
		back := 0
		for n, b := range old {
			if n < left[0] && rng.IntN(2) == 0 {
				overwrite(t, fs, segmentPath(n), b)
				back++
			}
		}
		overwrite(t, fs, segmentPath(99)+tmpSuffix, []byte("a segment that was being made"))
		l = open(t, fs, Options{SegmentBytes: 1000})
		wantLog(t, l, Mark{70, 1, 1}, run(71, 101, 1))
		must(t, l.Close())
		names, err := fs.List(testDir)
		must(t, err)
		if n := segmentNumbers(names); !slices.Equal(n, left) || slices.Contains(names, segmentName(99)+tmpSuffix) {
			t.Fatalf("round %d: %d came back, %q are left and should be %d", round, back, names, left)
		}
	}
}

func TestReadingGoesOnWhileItsSegmentsAreRemoved(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	segmented(t, fs)
	l := open(t, fs, Options{SegmentBytes: 1000, TailBytes: 1})
	next := uint64(2)
	must(t, l.visit(2, 100, 1<<20, func(e *raftpb.Entry) bool {
		if e.GetIndex() != next {
			t.Fatalf("entry %d where %d belongs", e.GetIndex(), next)
		}
		if next++; next == 10 {
			must(t, l.Cut(90))
			must(t, l.Append(nil, run(95, 120, 7), true)) // what is read was overwritten since
		}
		if next > 96 && e.GetTerm() != 1 {
			t.Fatalf("entry %d is of term %d", e.GetIndex(), e.GetTerm())
		}
		return true
	}))
	if next != 100 {
		t.Fatalf("it ended at %d", next)
	}
	if _, err := l.Entries(2, 100, 1<<20); !errors.Is(err, ErrCompacted) {
		t.Errorf("entries that were cut off: %v", err)
	}
	wantLog(t, l, Mark{90, 1, 1}, append(run(91, 95, 1), run(95, 120, 7)...))
	must(t, l.Close())
}

func TestALogThatIsReadOnlyChangesNothing(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	segmented(t, fs)
	l := open(t, fs, Options{})
	must(t, l.Cut(50))
	must(t, l.Close())
	last := numbersIn(t, fs)
	newest := segmentPath(last[len(last)-1])
	overwrite(t, fs, newest, append(content(t, fs, newest), 1, 2, 3))
	overwrite(t, fs, segmentPath(1), []byte("what came back"))
	overwrite(t, fs, segmentPath(99)+tmpSuffix, nil)
	before := fs.String()
	l = open(t, fs, Options{Storage: storage.Options{ReadOnly: true}})
	wantLog(t, l, Mark{50, 1, 1}, run(51, 101, 1))
	for what, err := range map[string]error{"append": l.Append(nil, run(101, 102, 1), true), "cut": l.Cut(60), "renew": l.Renew(2, 100)} {
		if !errors.Is(err, errMisuse) {
			t.Errorf("%s: %v", what, err)
		}
	}
	must(t, l.Close())
	if after := fs.String(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if _, err := Open("elsewhere", Options{Storage: storage.Options{FS: fs, ReadOnly: true}}); err == nil {
		t.Error("a directory that is not there was opened")
	}
}

func TestThePlacesOfEntriesTakeLittleMemory(t *testing.T) {
	t.Parallel()
	l := bootstrapped(t, vfs.NewMem(), 1, Options{SegmentBytes: 1 << 20})
	for i := uint64(2); i < 4000; i += 10 {
		entries := run(i, i+10, 1)
		for _, e := range entries {
			e.Data = append(e.Data, make([]byte, 900)...)
		}
		must(t, l.Append(nil, entries, false))
	}
	m := l.Metrics()
	if points, most := uint64(len(l.index.points)), m.DiskBytes/pointBytes+uint64(2*m.Segments); points > most || m.Segments < 3 {
		t.Errorf("%d points for %d bytes in %d segments, want %d at most", points, m.DiskBytes, m.Segments, most)
	}
	must(t, l.Cut(3990))
	if n := len(l.index.points); n > 2 {
		t.Errorf("%d points after the cut", n)
	}
	must(t, l.Close())
}

func TestLargeRecordsAreWrittenInPartsAndReadBack(t *testing.T) {
	t.Parallel()
	rng := rand.NewChaCha8([32]byte{1})
	var want []*raftpb.Entry
	for i, size := range []int{0, 1, directBytes - 1, directBytes, directBytes + 1, bufferBytes, 3 * bufferBytes, 10, 2 << 20, 5} {
		e := entry(uint64(i+1), 1)
		e.Data = nil
		if size > 0 {
			e.Data = make([]byte, size)
			_, _ = rng.Read(e.Data) // it never fails
		}
		want = append(want, e)
	}
	for name, together := range map[string]bool{"in one record": true, "one by one": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewCrashableMem()
			l := open(t, fs, Options{TailBytes: 1})
			must(t, l.Bootstrap(testIdentity, HardState{Term: 1}, nil, 1))
			if together {
				must(t, l.Append(nil, want, true))
			} else {
				for i := range want {
					must(t, l.Append(nil, want[i:i+1], true))
				}
			}
			wantLog(t, l, Mark{Generation: 1}, want)
			if n := cap(l.writer.buf); n > 2*bufferBytes+directBytes {
				t.Errorf("the buffer keeps %d bytes", n)
			}
			crashed := open(t, fs.CrashClone(vfs.CrashCloneCfg{}), Options{TailBytes: 1})
			wantLog(t, crashed, Mark{Generation: 1}, want)
			must(t, errors.Join(crashed.Close(), l.Close()))
		})
	}
}

// TestWhatIsNotProvenToBeSyncedIsWrittenAgain: after a failed sync the system calls the pages clean, and a restart that only synced
// the file again would take for durable what is on no disk.
func TestWhatIsNotProvenToBeSyncedIsWrittenAgain(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	l, _, ends := grown(t, mem, Options{}, appendRun(4, 8, 1), appendRun(8, 40, 1))
	proven, end := ends[1], ends[2] // the last append says that the one before was synced
	var from int64
	var writes int
	var synced bool
	fs := errorfs.Wrap(mem.CrashClone(vfs.CrashCloneCfg{}), errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch {
		case op.Path != segmentPath(1):
		case op.Kind == errorfs.OpFileWriteAt:
			from, writes, synced = op.Offset, writes+1, false
		case op.Kind == errorfs.OpFileSync && writes > 0:
			synced = true
		}
		return nil
	}))
	again := open(t, fs, Options{})
	if from != int64(proven) || writes != 1 || !synced {
		t.Errorf("%d writes, the last one from %d, synced %v; not proven is [%d, %d)", writes, from, synced, proven, end)
	}
	wantLog(t, again, Mark{Generation: 1}, run(1, 40, 1))
	must(t, errors.Join(again.Close(), l.Close()))
}

// TestDamageOfAnyKindIsRefusedOrLeavesWhatWasThere: flips, zeros, truncations and blocks of other places, in any file, at any
// place. The log is refused, or is one that was there at some time since the newest record that is proven.
func TestDamageOfAnyKindIsRefusedOrLeavesWhatWasThere(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]bool{"files that end with their last records": false, "room ahead": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk, l := forDamage(t, ahead)
			for seed := range uint64(500) {
				damaged(t, disk, seed)
			}
			must(t, l.Close())
		})
	}
}

// forDamage makes a log in several segments whose last append nothing proves to have been synced.
func forDamage(t testing.TB, ahead bool) (*vfs.MemFS, *Log) {
	t.Helper()
	disk := vfs.NewCrashableMem()
	segmented(t, disk)
	o := Options{SegmentBytes: 1000}
	if ahead {
		o.room = memoryRoom(disk)
	}
	l := open(t, disk, o)
	must(t, l.Cut(33))
	must(t, l.Append(nil, run(90, 95, 2), true))
	must(t, l.Append(nil, run(95, 98, 2), true))
	return disk, l
}

func damaged(t testing.TB, disk *vfs.MemFS, seed uint64) {
	t.Helper()
	fs := disk.CrashClone(vfs.CrashCloneCfg{})
	rng := rand.New(rand.NewPCG(seed, 4))
	numbers := numbersIn(t, fs)
	name := segmentPath(numbers[rng.IntN(len(numbers))])
	b := content(t, fs, name)
	at := rng.IntN(len(b))
	to := min(len(b), at+1+rng.IntN(600))
	what := ""
	switch rng.IntN(4) {
	case 0:
		what = "a flip"
		b[at] ^= 1 << rng.IntN(8)
	case 1:
		what = "zeros"
		clear(b[at:to])
	case 2:
		what = "a truncation"
		b = b[:at]
	case 3:
		what = "bytes of another place"
		from := content(t, fs, segmentPath(numbers[rng.IntN(len(numbers))]))
		copy(b[at:to], from[rng.IntN(len(from)):])
	}
	overwrite(t, fs, name, b)
	what = fmt.Sprintf("seed %d: %s in [%d, %d) of %s", seed, what, at, to, name)
	l, err := tryOpen(fs)
	if err != nil {
		if !errors.Is(err, storage.ErrCorrupt) {
			t.Fatalf("%s: %v", what, err)
		}
		return
	}
	// The last synced append may be taken for torn, nothing else. A truncation may leave out more: nothing tells of it.
	last, mark := l.LastIndex(), l.Mark()
	tail := run(90, min(last, 97)+1, 2)
	if last != 97 && last != 94 && (last > 100 || last < 90) || mark.Index != 33 && mark.Index != 0 {
		t.Fatalf("%s: the log is [%d, %d]", what, mark.Index+1, last)
	}
	if last > 97 {
		tail = run(90, last+1, 1)
	}
	wantLog(t, l, mark, append(run(mark.Index+1, 90, 1), tail...))
	if err := l.Close(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func FuzzDamage(f *testing.F) {
	without, _ := forDamage(f, false)
	with, _ := forDamage(f, true)
	f.Add(uint64(1), false)
	f.Add(uint64(1), true)
	f.Fuzz(func(t *testing.T, seed uint64, ahead bool) {
		if ahead {
			damaged(t, with, seed)
		} else {
			damaged(t, without, seed)
		}
	})
}
