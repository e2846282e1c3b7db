package etcdfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

func TestVersionsComeInOrderOfTheirRevisions(t *testing.T) {
	t.Parallel()
	for name, runBytes := range map[string]int{
		"a version a run":              1,
		"many runs":                    500,
		"two runs":                     40_000,
		"all of them in memory":        1 << 30,
		"runs of the size that is set": runBytes,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(1, uint64(runBytes)))
			var want []version
			for i := range 1000 {
				want = append(want, version{mvcc.Revision{Main: int64(i/3 + 2), Sub: uint32(i % 3)}, i%7 == 0, make([]byte, r.IntN(100))})
				for j := range want[i].value {
					want[i].value[j] = byte(r.Uint32())
				}
			}
			want[500].value = bytes.Repeat([]byte("x"), 3*keepBytes) // larger than a run, and than what is kept
			path := filepath.Join(t.TempDir(), "sort")
			s := newSorter(path, runBytes)
			for _, i := range r.Perm(len(want)) {
				noError(t, s.add(want[i]))
			}
			n := 0
			noError(t, s.each(func(got version) error {
				if w := want[n]; got.rev != w.rev || got.tombstone != w.tombstone || !bytes.Equal(got.value, w.value) {
					return fmt.Errorf("number %d: got %v with %d bytes, want %v with %d", n, got.rev, len(got.value), w.rev, len(w.value))
				}
				n++
				return nil
			}))
			if n != len(want) {
				t.Errorf("got %d versions of %d", n, len(want))
			}
			noError(t, s.close())
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the file is still there: %v", err)
			}
		})
	}
}

func TestSortingEndsWithTheErrorOfTheCaller(t *testing.T) {
	t.Parallel()
	full := errors.New("full")
	for name, runBytes := range map[string]int{"in memory": 1 << 20, "from a file": 1} {
		s := newSorter(filepath.Join(t.TempDir(), "sort"), runBytes)
		for i := range 5 {
			noError(t, s.add(version{rev: mvcc.Revision{Main: int64(i + 2)}}))
		}
		n := 0
		err := s.each(func(version) error {
			if n++; n == 3 {
				return full
			}
			return nil
		})
		if !errors.Is(err, full) || n != 3 {
			t.Errorf("%s: got %v after %d versions", name, err, n)
		}
		noError(t, s.close())
	}
}

// The file is on a disk, and may come back as it was not written.
func TestDamageInTheSortedFileIsAnError(t *testing.T) {
	t.Parallel()
	const each = versionBytes + 3
	for at := range 2 * each {
		s := newSorter(filepath.Join(t.TempDir(), "sort"), 1)
		for i := range 3 {
			noError(t, s.add(version{rev: mvcc.Revision{Main: int64(i + 2)}, value: []byte("abc")}))
		}
		noError(t, s.spill())
		noError(t, s.out.Flush())
		b := make([]byte, 1)
		_, err := s.file.ReadAt(b, int64(at))
		noError(t, err)
		_, err = s.file.WriteAt([]byte{b[0] ^ 0x10}, int64(at))
		noError(t, err)
		if err := merge(s.runs, func(version) error { return nil }); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("byte %d: got %v", at, err)
		}
		noError(t, s.close())
	}
	s := newSorter(filepath.Join(t.TempDir(), "sort"), 1)
	for i := range 3 {
		noError(t, s.add(version{rev: mvcc.Revision{Main: int64(i + 2)}, value: []byte("abc")}))
	}
	noError(t, s.spill())
	noError(t, s.out.Flush())
	noError(t, s.file.Truncate(2*each)) // the last run is gone as a whole
	if err := merge(s.runs, func(version) error { return nil }); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a file that was cut short: %v", err)
	}
	noError(t, s.close())
}

func TestAFileToSortInIsNeverOneThatIsThere(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sort")
	noError(t, os.WriteFile(path, []byte("mine"), 0o600))
	s := newSorter(path, 1)
	noError(t, s.add(version{}))
	if err := s.add(version{}); !errors.Is(err, os.ErrExist) {
		t.Errorf("got %v", err)
	}
	noError(t, s.close())
	if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
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
