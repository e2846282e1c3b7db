package storage

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// removeTable removes a table of 4 MiB that somebody holds open, after prepare, and returns how often that rested and what the table has then.
func removeTable(t *testing.T, prepare func(path string)) (rests int, size int64) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "000001.sst")
	if err := os.WriteFile(path, make([]byte, tableBytes), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	prepare(path)
	var requests atomic.Uint64
	c := newWorkingClock()
	p := newPacer(c, func() uint64 { return requests.Add(1) })
	if err := newFence(vfs.Default, newFailure("", nil), p).Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the name: %v", err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return len(c.took()), info.Size()
}

func TestARemovedTableIsGivenBackPieceByPiece(t *testing.T) {
	t.Parallel()
	if rests, size := removeTable(t, func(string) {}); rests != 1+tableBytes/shrinkBytes || size != 0 {
		t.Errorf("%d rests, %d bytes are left", rests, size)
	}
}

func TestARemovedTableThatACopyHasStaysWhole(t *testing.T) {
	t.Parallel()
	rests, size := removeTable(t, func(path string) {
		if err := os.Link(path, path+".copy"); err != nil {
			t.Fatal(err)
		}
	})
	if rests != 1 || size != tableBytes {
		t.Errorf("%d rests, %d bytes are left", rests, size)
	}
}
