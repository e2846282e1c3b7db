package storage

import (
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestTheMemoryOfAFlushedMemTableIsGivenBackUnlessItIsUsedSoon(t *testing.T) {
	t.Parallel()
	c := clock.NewManual(time.Unix(0, 0))
	db := openTestState(t, vfs.NewMem(), Options{Clock: c})
	flushOne := func() {
		t.Helper()
		set(t, db, AppendPlainKey(nil, SpaceMeta, []byte("applied")), "value")
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	want := func(when string, kept int64) {
		t.Helper()
		if got := db.p.Metrics().MemTable.ZombieCount; got != kept {
			t.Errorf("%s %d memtables are kept that hold nothing, want %d", when, got, kept)
		}
	}

	flushOne()
	want("after a flush", 1)
	c.Advance(spareFor - 1)
	want("shortly before the time is over", 1)
	c.Advance(1)
	want("when it is over", 0)

	flushOne()
	c.Advance(spareOften - 1)
	want("after a flush soon after another one", 1)
	flushOne()
	c.Advance(spareOften - 1)
	want("after one more", 1)
	c.Advance(1)
	want("when there were no more", 0)

	c.Advance(spareOften)
	view, err := db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	flushOne()
	c.Advance(spareFor)
	want("while a view sees it", 1)
	if err := view.Close(); err != nil {
		t.Fatal(err)
	}
	c.Advance(spareEvery)
	want("after the view", 0)
}

func TestBuffersOfValueBlocksHaveRoomForABlockOnly(t *testing.T) {
	t.Parallel()
	const more = 1000 // than other tests have given back
	var last *block.TempBuffer
	for range more {
		last = block.NewTempBuffer()
	}
	if got := cap(last.Data()); got != valueBufferBytes {
		t.Errorf("a new buffer has %d bytes, want %d", got, valueBufferBytes)
	}
}
