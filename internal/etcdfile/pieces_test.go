package etcdfile

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
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
	for taken := range 3 { // pieces, before the reader ends
		r, f, err := os.Pipe()
		noError(t, err)
		read := make(chan error, 1)
		end := func() {
			noError(t, <-read)
			noError(t, r.Close())
		}
		go func() {
			_, err := io.CopyN(io.Discard, r, int64(taken*pieceBytes))
			read <- err
		}()
		if taken == 0 {
			end()
		}
		rests := 0
		n, err := pieces{f, func() {
			if rests++; rests == taken {
				end()
			}
		}}.Write(make([]byte, 4*pieceBytes))
		if !errors.Is(err, syscall.EPIPE) || n != taken*pieceBytes || rests != taken {
			t.Errorf("wrote %d bytes with %d rests, want %d pieces of %d; %v", n, rests, taken, pieceBytes, err)
		}
		noError(t, f.Close())
	}
}

// A run has 8 MiB, and whoever serves a request may wait for the processor that writes them.
func TestSortingRestsWhileItWritesARun(t *testing.T) {
	t.Parallel()
	f := sortFile(t)
	rest, most := growth(t, f.Name())
	s := newSorter(f, 20*pieceBytes, rest)
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
}
