package etcdfile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// growth returns a rest that looks at how much a file has grown since the one before, and the most of it.
func growth(t *testing.T, path string) (rest func(), most func() int64) {
	var before, largest int64
	return func() {
		info, err := os.Stat(path)
		if errors.Is(err, os.ErrNotExist) {
			return
		}
		noError(t, err)
		largest = max(largest, info.Size()-before)
		before = info.Size()
	}, func() int64 { return largest }
}

func TestAFileIsWrittenInPieces(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, pieceBytes, pieceBytes + 1, 5*pieceBytes - 1} {
		path := filepath.Join(t.TempDir(), "file")
		f, err := os.Create(path)
		noError(t, err)
		rest, most := growth(t, path)
		rests := 0
		want := bytes.Repeat([]byte("0123456789abcde"), size/15+1)[:size]
		n, err := pieces{f, func() { rests++; rest() }}.Write(want)
		if err != nil || n != size {
			t.Errorf("%d bytes: wrote %d, %v", size, n, err)
		}
		if pieces := (size + pieceBytes - 1) / pieceBytes; rests != pieces || most() > pieceBytes {
			t.Errorf("%d bytes: %d rests, %d bytes without one at most; want %d and %d", size, rests, most(), pieces, pieceBytes)
		}
		noError(t, f.Close())
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: the file holds %d, %v", size, len(got), err)
		}
	}
}

func TestWhatAFileDoesNotTakeIsTold(t *testing.T) {
	t.Parallel()
	f, err := os.Open(t.TempDir()) // nobody writes to a directory
	noError(t, err)
	n, err := pieces{f, func() { t.Error("it rests") }}.Write([]byte("abc"))
	if err == nil || n != 0 {
		t.Errorf("wrote %d bytes, %v", n, err)
	}
	noError(t, f.Close())
}

// A run has 8 MiB, and whoever serves a request may wait for the processor that writes them.
func TestSortingRestsWhileItWritesARun(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sort")
	s := newSorter(path, 20*pieceBytes)
	var most func() int64
	s.rest, most = growth(t, path)
	for i := range 20_000 {
		noError(t, s.add(version{rev: mvcc.Revision{Main: int64(i + 2)}, value: make([]byte, 256)}))
	}
	if len(s.runs) < 3 {
		t.Fatalf("%d runs in the file", len(s.runs))
	}
	s.rest() // what came after the last one
	if got := most(); got > pieceBytes {
		t.Errorf("%d bytes were written without a rest, want %d at most", got, pieceBytes)
	}
	noError(t, s.close())
}
