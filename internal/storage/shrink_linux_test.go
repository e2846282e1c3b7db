package storage

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// looksBefore is how often it is looked whether clients ask for anything before the first look for a rest: where the pacer is made, and where a
// removal begins.
const looksBefore = 2

// removeTable removes a table of 4 MiB that somebody holds open, after prepare, and returns how often that could have rested and what the table has then.
func removeTable(t *testing.T, prepare func(path string)) (looks int, size int64) {
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
	p := newPacer(newWorkingClock(), func() uint64 { return requests.Add(1) }, 32<<20)
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
	return int(requests.Load()) - looksBefore, info.Size()
}

func TestARemovedTableIsGivenBackPieceByPiece(t *testing.T) {
	t.Parallel()
	if looks, size := removeTable(t, func(string) {}); looks != 1+tableBytes/shrinkBytes || size != 0 {
		t.Errorf("it could rest %d times, %d bytes are left", looks, size)
	}
}

func TestARemovedTableThatACopyHasStaysWhole(t *testing.T) {
	t.Parallel()
	looks, size := removeTable(t, func(path string) {
		if err := os.Link(path, path+".copy"); err != nil {
			t.Fatal(err)
		}
	})
	if looks != 1 || size != tableBytes {
		t.Errorf("it could rest %d times, %d bytes are left", looks, size)
	}
}

func TestATableThatIsNotThereIsNotMadeToBeRemoved(t *testing.T) {
	t.Parallel()
	var requests atomic.Uint64
	p := newPacer(newWorkingClock(), func() uint64 { return requests.Add(1) }, 32<<20)
	err := newFence(vfs.Default, newFailure("", nil), p).Remove(filepath.Join(t.TempDir(), "000001.sst"))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the removal: %v", err)
	}
}
