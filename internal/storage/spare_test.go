package storage

import (
	"runtime"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// How a memtable is freed is tested where that is done, in pebblemem.
func TestTheMemoryOfAFlushedMemTableIsGivenBackUnlessItIsUsedSoon(t *testing.T) {
	t.Parallel()
	c := clock.NewManual(time.Unix(0, 0))
	db := openTestState(t, vfs.NewMem(), Options{Clock: c})
	asked, seen := 0, false
	db.spare.give = func(*pebble.DB) (int64, bool) {
		asked++
		return 0, !seen
	}
	flushOne := func() {
		t.Helper()
		set(t, db, AppendPlainKey(nil, SpaceMeta, []byte("applied")), "value")
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	want := func(when string, times int) {
		t.Helper()
		if asked != times {
			t.Errorf("%s it was asked for %d times, want %d", when, asked, times)
		}
	}

	flushOne()
	c.Advance(spareFor - 1)
	want("shortly before the time is over", 0)
	c.Advance(1)
	want("when it is over", 1)
	c.Advance(spareEvery)
	want("later", 1)

	flushOne()
	flushOne()
	c.Advance(spareOften - 1)
	want("after a flush soon after another one", 1)
	flushOne()
	c.Advance(spareOften - 1)
	want("after one more", 1)
	c.Advance(1)
	want("when there were no more", 2)

	c.Advance(spareOften)
	seen = true
	flushOne()
	c.Advance(spareFor)
	want("while a view sees it", 3)
	seen = false
	c.Advance(spareEvery)
	want("after the view", 4)

	seen = true
	flushOne()
	c.Advance(spareFor + 2*spareTries*spareEvery)
	want("with a view that stays", 4+spareTries)

	flushOne()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	c.Advance(spareEvery)
	want("after the end", 4+spareTries)
}

func TestWhatIsKeptWithoutMemoryIsNotCountedUntilItIsWritten(t *testing.T) {
	t.Parallel()
	c := clock.NewManual(time.Unix(0, 0))
	db := openTestState(t, vfs.NewMem(), Options{Clock: c})
	given := false
	db.spare.give = func(p *pebble.DB) (int64, bool) {
		given = true
		return int64(p.Metrics().MemTable.ZombieSize), true
	}
	for range 2 {
		set(t, db, AppendPlainKey(nil, SpaceMeta, []byte("applied")), "value")
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
		if got := db.Metrics().KeptBytes; got == 0 {
			t.Error("after a flush no memtable is kept")
		}
		c.Advance(spareOften)
		if got := db.Metrics().KeptBytes; got != 0 || !given {
			t.Errorf("%d bytes are kept when their memory was given back (%t)", got, given)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// Flushes tell of their end with locks of Pebble held, for which commits wait.
func TestAFlushEndsAndCloseWaitsWhileMemoryIsGivenBack(t *testing.T) {
	t.Parallel()
	c := clock.NewManual(time.Unix(0, 0))
	db := openTestState(t, vfs.NewMem(), Options{Clock: c})
	begun, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	db.spare.give = func(*pebble.DB) (int64, bool) {
		close(begun)
		<-goOn
		return 0, true
	}
	set(t, db, AppendPlainKey(nil, SpaceMeta, []byte("applied")), "value")
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	go c.Advance(spareFor)
	<-begun
	db.spare.flushed()
	go func() {
		db.spare.end()
		close(ended)
	}()
	for range 10_000 {
		runtime.Gosched()
	}
	select {
	case <-ended:
		t.Error("the end did not wait for memory that was being given back")
	default:
	}
	close(goOn)
	<-ended
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
