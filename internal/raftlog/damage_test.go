package raftlog

import (
	"encoding/binary"
	"errors"
	"io"
	"path"
	"strings"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/storage"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// content reads a file, overwritten writes one.
func content(t testing.TB, fs storage.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	must(t, err)
	b, err := io.ReadAll(f)
	must(t, errors.Join(err, f.Close()))
	return b
}

func overwrite(t testing.TB, fs storage.FS, name string, b []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	must(t, err)
	_, err = f.Write(b)
	must(t, errors.Join(err, f.Sync(), f.Close(), storage.SyncDir(fs, path.Dir(name))))
}

func segmentPath(seq uint64) string { return path.Join(testDir, segmentName(seq)) }

// written adds a record to the newest segment, with right checksums.
func written(t *testing.T, fs storage.FS, seq uint64, change func(s *segment, r *record), r record) {
	t.Helper()
	s, err := openSegment(fs, testDir, seq, true)
	must(t, err)
	var p replay
	_, err = p.segment(s, -1)
	must(t, err)
	if change != nil {
		change(s, &r)
	}
	var w writer
	_, err = w.write(s, &r)
	must(t, errors.Join(err, s.release()))
}

func TestARecordThatIsNotPossibleIsRefusedThoughItsChecksumsAreRight(t *testing.T) {
	t.Parallel()
	hs, mark := HardState{1, 0, 3}, Mark{3, 1, 1}
	newer := testIdentity
	newer.Format++
	var none state
	cases := map[string]struct {
		record record
		change func(s *segment, r *record)
		says   string
		is     error
	}{
		"an unknown kind":                      {record{kind: 99}, nil, "a record of kind 99", storage.ErrCorrupt},
		"kind 0":                               {record{}, nil, "a record of kind 0", storage.ErrCorrupt},
		"a second beginning":                   {none.begin(0), nil, "does not belong there", storage.ErrCorrupt},
		"an append after a gap":                {record{kind: kindAppend}.withEntries(run(11, 12, 1)), nil, "1 entries from 11", storage.ErrCorrupt},
		"an append at the mark":                {record{kind: kindAppend}.withEntries(run(2, 4, 1)), nil, "2 entries from 2", storage.ErrCorrupt},
		"an append of nothing":                 {record{kind: kindAppend}, nil, "an append", storage.ErrCorrupt},
		"an append with a mark":                {record{kind: kindAppend, mark: &mark, hs: &hs}, nil, "an append", storage.ErrCorrupt},
		"a mark above the last":                {record{kind: kindMark, mark: &Mark{10, 1, 1}}, nil, "the mark 10", storage.ErrCorrupt},
		"a mark that goes back":                {record{kind: kindMark, mark: &Mark{1, 1, 1}}, nil, "the mark 1", storage.ErrCorrupt},
		"a mark without a mark":                {record{kind: kindMark}, nil, "a mark", storage.ErrCorrupt},
		"an installation without a hard state": {record{kind: kindInstall, mark: &mark}, nil, "an installation", storage.ErrCorrupt},
		"a second bootstrap":                   {record{kind: kindInstall, mark: &mark, hs: &hs, identity: &testIdentity}, nil, "an installation", storage.ErrCorrupt},
		"an installation with a hole":          {record{kind: kindInstall, mark: &mark, hs: &hs}.withEntries(run(5, 6, 1)), nil, "an installation", storage.ErrCorrupt},
		"staging":                              {record{kind: kindStage}.withEntries(run(10, 11, 1)), nil, "staging", storage.ErrCorrupt},
		"an adoption":                          {record{kind: kindAdopt, mark: &mark, hs: &hs, identity: &testIdentity}, nil, "an adoption", storage.ErrCorrupt},
		"a seal of something":                  {record{kind: kindSeal, hs: &hs}, nil, "a seal", storage.ErrCorrupt},
		"a commit above the last":              {record{kind: kindAppend, hs: &HardState{1, 0, 10}}, nil, "commit index 10", storage.ErrCorrupt},
		"a record of another chain":            {record{kind: kindSeal}, func(s *segment, _ *record) { s.sum++ }, "after the record before it", storage.ErrCorrupt},
		"an identity of a newer format":        {record{kind: kindInstall, mark: &mark, hs: &hs, identity: &newer}, nil, "format version 2", storage.ErrNewerFormat},
		"a newer identity and entries": {record{kind: kindInstall, mark: &mark, hs: &hs, identity: &newer}.withEntries(run(4, 9, 1)), nil,
			"format version 2", storage.ErrNewerFormat},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewMem()
			l := bootstrapped(t, fs, 9, Options{})
			must(t, l.Cut(2))
			must(t, l.Close())
			written(t, fs, 1, c.change, c.record)
			_, err := tryOpen(fs)
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), testDir) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v", err)
			}
			if c.is == storage.ErrCorrupt && !strings.Contains(err.Error(), storage.Remedy) {
				t.Fatalf("no advice in: %v", err)
			}
		})
	}
}

// segmented makes a log with a hundred entries in several segments, of which the last has an append that nothing proves to have
// been synced.
func segmented(t testing.TB, fs storage.FS) {
	t.Helper()
	l := bootstrapped(t, fs, 3, Options{SegmentBytes: 1000})
	for i := uint64(4); i <= 100; i += 4 {
		must(t, l.Append(&HardState{1, 0, i - 1}, run(i, min(i+4, 101), 1), true))
	}
	must(t, l.Close())
	l = open(t, fs, Options{SegmentBytes: 1000})
	if n := len(l.segments); n < 6 || l.segments[0].seq != 1 {
		t.Fatalf("%d segments", n)
	}
	must(t, l.Close())
}

func TestSegmentsThatDoNotBelongTogetherAreRefused(t *testing.T) {
	t.Parallel()
	swap := func(t *testing.T, fs storage.FS, a, b uint64) {
		x, y := content(t, fs, segmentPath(a)), content(t, fs, segmentPath(b))
		overwrite(t, fs, segmentPath(a), y)
		overwrite(t, fs, segmentPath(b), x)
	}
	newest := func(t *testing.T, fs storage.FS) uint64 {
		names, err := fs.List(testDir)
		must(t, err)
		numbers := segmentNumbers(names)
		return numbers[len(numbers)-1]
	}
	cases := map[string]struct {
		damage func(t *testing.T, fs storage.FS)
		says   string
	}{
		"the oldest is missing":  {func(t *testing.T, fs storage.FS) { must(t, fs.Remove(segmentPath(1))) }, "there is no segment before"},
		"one between is missing": {func(t *testing.T, fs storage.FS) { must(t, fs.Remove(segmentPath(3))) }, "entry 1 is missing"},
		"two have changed names": {func(t *testing.T, fs storage.FS) { swap(t, fs, 2, 3) }, segmentName(2)},
		"one is there twice": {func(t *testing.T, fs storage.FS) {
			n := newest(t, fs)
			overwrite(t, fs, segmentPath(n+1), content(t, fs, segmentPath(n)))
		}, "offset 0"},
		"one has another's content": {func(t *testing.T, fs storage.FS) { overwrite(t, fs, segmentPath(3), content(t, fs, segmentPath(2))) }, segmentName(3)},
		"the newest is empty":       {func(t *testing.T, fs storage.FS) { overwrite(t, fs, segmentPath(newest(t, fs)), nil) }, "offset 0"},
		"an older one is shorter": {func(t *testing.T, fs storage.FS) {
			b := content(t, fs, segmentPath(2))
			overwrite(t, fs, segmentPath(2), b[:len(b)-1])
		}, segmentName(2)},
		"an older one is empty": {func(t *testing.T, fs storage.FS) { overwrite(t, fs, segmentPath(2), nil) }, segmentName(2)},
		"one is of another member's log": {func(t *testing.T, fs storage.FS) {
			other := vfs.NewMem()
			id := testIdentity
			id.StoreID[3]++
			l := open(t, other, Options{SegmentBytes: 1000})
			must(t, l.Bootstrap(id, HardState{1, 0, 3}, run(1, 4, 1), 1))
			for i := uint64(4); i <= 100; i += 4 {
				must(t, l.Append(&HardState{1, 0, i - 1}, run(i, min(i+4, 101), 1), true))
			}
			must(t, l.Close())
			overwrite(t, fs, segmentPath(3), content(t, other, segmentPath(3)))
		}, segmentName(3)},
		"a newer release began the newest": {func(t *testing.T, fs storage.FS) {
			n := newest(t, fs)
			b := content(t, fs, segmentPath(n))
			h, _ := decodeHeader(b, n, 0)
			body := b[headerBytes : headerBytes+int(h.length)]
			at := headerBytes + 1 + len(magic)
			b[at] = logFormat + 1
			h.body = binary.LittleEndian.Uint32(b[4:])
			h.body = bodySum(body)
			h.encode(b)
			overwrite(t, fs, segmentPath(n), b)
		}, "format 2 of the log"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewMem()
			segmented(t, fs)
			c.damage(t, fs)
			_, err := tryOpen(fs)
			newer := strings.Contains(c.says, "format")
			if err == nil || errors.Is(err, storage.ErrNewerFormat) != newer || errors.Is(err, storage.ErrCorrupt) == newer || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v", err)
			}
		})
	}
}

func TestADiskThatCannotBeReadEndsTheLog(t *testing.T) {
	t.Parallel()
	for what, read := range map[string]func(l *Log) error{
		"Entries": func(l *Log) error { _, err := l.Entries(2, 9, 1<<20); return err },
		"Term":    func(l *Log) error { _, err := l.Term(5); return err },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var told error
			broken := &errorfs.Toggle{Injector: errorfs.ErrInjected.If(errorfs.Reads)}
			l := bootstrapped(t, errorfs.Wrap(vfs.NewMem(), broken), 9,
				Options{TailBytes: 1, Storage: storage.Options{Fatal: func(err error) { told = err }}})
			broken.On()
			err := read(l)
			broken.Off()
			for _, part := range []string{segmentName(1) + " at offset ", errorfs.ErrInjected.Error(), storage.Remedy} {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("%q is not in: %v", part, err)
				}
			}
			if errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("%v", err)
			}
			if told == nil || l.Append(nil, run(10, 11, 1), true) == nil {
				t.Errorf("the log goes on; told was %v", told)
			}
		})
	}
}

func TestDamageThatIsFoundByReadingEndsTheLog(t *testing.T) {
	t.Parallel()
	for what, read := range map[string]func(l *Log) error{
		"Verify":  func(l *Log) error { return l.Verify() },
		"Entries": func(l *Log) error { _, err := l.Entries(2, 9, 1<<20); return err },
		"Term":    func(l *Log) error { _, err := l.Term(5); return err },
		"Cut":     func(l *Log) error { return l.Cut(5) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var told error
			fs := vfs.NewMem()
			l := bootstrapped(t, fs, 9, Options{TailBytes: 1, Storage: storage.Options{Fatal: func(err error) { told = err }}})
			b := content(t, fs, segmentPath(1))
			at := strings.Index(string(b), "entry 5 of")
			f, err := fs.OpenReadWrite(segmentPath(1), vfs.WriteCategoryUnspecified)
			must(t, err)
			_, err = f.WriteAt([]byte{b[at] ^ 1}, int64(at))
			must(t, errors.Join(err, f.Close()))
			err = read(l)
			if !errors.Is(err, storage.ErrCorrupt) || !errors.Is(err, storage.ErrFailed) || !strings.Contains(err.Error(), "entry 5") ||
				!strings.Contains(err.Error(), segmentName(1)) {
				t.Errorf("%v", err)
			}
			if told == nil || l.Append(nil, run(10, 11, 1), true) == nil {
				t.Errorf("the log goes on; told was %v", told)
			}
			if err := l.Close(); !errors.Is(err, storage.ErrFailed) {
				t.Errorf("Close: %v", err)
			}
		})
	}
}
