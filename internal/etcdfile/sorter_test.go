package etcdfile

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// sortFile returns an empty file, which ends with the test.
func sortFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "sort"))
	noError(t, err)
	t.Cleanup(func() { noError(t, f.Close()) })
	return f
}

// sorted gives the versions to a sorter with runs of so many bytes, after something that is not its own.
func sorted(t *testing.T, runBytes int, all ...version) *Image {
	t.Helper()
	s := newSorter(sortFile(t), runBytes, runtime.Gosched)
	_, err := s.Write([]byte("before"))
	noError(t, err)
	for _, v := range all {
		noError(t, s.add(v))
	}
	noError(t, s.finish())
	return &Image{f: s.f, end: s.end, runs: s.runs}
}

// merged goes through the versions, or their heads, to their end.
func merged(i *Image, heads, release bool) (all []version, err error) {
	m := newMerger(i.open(heads, release))
	for {
		v, more, err := m.next()
		if err != nil || !more {
			return all, err
		}
		v.value = bytes.Clone(v.value)
		all = append(all, v)
	}
}

func TestVersionsComeInOrderOfTheirRevisions(t *testing.T) {
	t.Parallel()
	for name, runBytes := range map[string]int{
		"a version a run":              1,
		"many runs":                    500,
		"two runs":                     40_000,
		"one run":                      1 << 30,
		"runs of the size that is set": runBytes,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(1, uint64(runBytes)))
			var want, mixed []version
			for i := range 1000 {
				v := version{mvcc.Revision{Main: int64(i/3 + 2), Sub: uint32(i % 3)}, i%7 == 0, make([]byte, r.IntN(100)), 0}
				if i == 500 {
					v.value = make([]byte, 3*keepBytes) // larger than a run, and than what is kept
				}
				for j := range v.value {
					v.value[j] = byte(r.Uint32())
				}
				v.size = len(v.value)
				want = append(want, v)
			}
			for _, i := range r.Perm(len(want)) {
				mixed = append(mixed, want[i])
			}
			image := sorted(t, runBytes, mixed...)
			for _, way := range []struct{ heads, release bool }{{true, false}, {false, false}, {false, true}} { // as often as one likes, but for the last
				got, err := merged(image, way.heads, way.release)
				if err != nil || len(got) != len(want) {
					t.Fatalf("%+v: %d versions of %d, %v", way, len(got), len(want), err)
				}
				for n, v := range got {
					w := want[n]
					if v.rev != w.rev || v.tombstone != w.tombstone || v.size != w.size || !way.heads && !bytes.Equal(v.value, w.value) {
						t.Fatalf("%+v: number %d: got %v with %d bytes, want %v with %d", way, n, v.rev, v.size, w.rev, w.size)
					}
				}
			}
		})
	}
}

func TestNothingSortedIsNothing(t *testing.T) {
	t.Parallel()
	if all, err := merged(sorted(t, runBytes), false, false); err != nil || len(all) > 0 {
		t.Errorf("%d versions, %v", len(all), err)
	}
}

// The file is on a disk, and may come back as it was not written.
func TestDamageInTheSortedFileIsAnError(t *testing.T) {
	t.Parallel()
	abc := func() *Image {
		return sorted(t, 1,
			version{rev: mvcc.Revision{Main: 2}, value: []byte("abc")},
			version{rev: mvcc.Revision{Main: 3}, value: []byte("abc")},
			version{rev: mvcc.Revision{Main: 4}, value: []byte("abc")})
	}
	const before, each = int64(len("before")), 2*versionBytes + 3
	for at := before; at < before+2*each; at++ {
		i := abc()
		b := make([]byte, 1)
		_, err := i.f.ReadAt(b, at)
		noError(t, err)
		_, err = i.f.WriteAt([]byte{b[0] ^ 0x10}, at)
		noError(t, err)
		_, values := merged(i, false, false)
		_, heads := merged(i, true, false)
		damaged, whole := values, heads
		if (at-before)%each >= versionBytes+3 {
			damaged, whole = heads, values
		}
		if !errors.Is(damaged, storage.ErrCorrupt) || whole != nil {
			t.Errorf("byte %d: values %v, heads %v", at, values, heads)
		}
	}
	i := abc()
	noError(t, i.f.Truncate(before+2*each)) // the last run is gone as a whole
	for _, heads := range []bool{false, true} {
		if _, err := merged(i, heads, false); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("a file that was cut short: %v", err)
		}
	}
}

func TestAFileToSortInIsNeverOneThatIsThere(t *testing.T) {
	t.Parallel()
	s := newState(t)
	s.put(t, "a", "v", 0)
	c, err := Read(s.db)
	noError(t, err)
	defer func() { noError(t, c.Close()) }()
	path := filepath.Join(t.TempDir(), "db")
	noError(t, os.WriteFile(path+SortSuffix, []byte("mine"), 0o600))
	if _, err := c.Write(t.Context(), path); !errors.Is(err, os.ErrExist) {
		t.Errorf("got %v", err)
	}
	if b, err := os.ReadFile(path + SortSuffix); err != nil || string(b) != "mine" {
		t.Errorf("the file holds %q, %v", b, err)
	}
}

// What one of data and history has and the other lacks is damage: nothing is written of it.
func TestDataAndHistoryThatDifferAreNotWritten(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		key  []byte
		want string
	}{
		"a version is lost":                {storage.AppendDataKey(nil, []byte("b"), 3, 0), "no data for the history record 3/0"},
		"the newest version is lost":       {storage.AppendDataKey(nil, []byte("c"), 4, 0), "no data for the history record"},
		"a record of history is lost":      {storage.AppendRevKey(nil, storage.SpaceHistory, 3, 0), "no history record for the data of 3/0"},
		"the last record of history is it": {storage.AppendRevKey(nil, storage.SpaceHistory, 4, 0), "no history record for the data of 4/0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newState(t)
			for _, k := range []string{"a", "b", "c"} {
				s.put(t, k, "v", 0)
			}
			b := s.db.NewBatch()
			noError(t, b.Delete(tt.key, nil))
			noError(t, s.db.Commit(b))
			noError(t, b.Close())
			c, err := Read(s.db)
			noError(t, err)
			defer func() { noError(t, c.Close()) }()
			_, err = c.Write(t.Context(), filepath.Join(t.TempDir(), "db"))
			if !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("writing: got %v, want %q", err, tt.want)
			}
			if _, err := c.Verify(t.Context()); !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("verifying: got %v", err)
			}
		})
	}
}
