package storage

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// longBack is after how long a cache that nobody walks through is as it was.
const longBack = wideFor + reserveSteps*narrowEvery

// cacheLab is a state with values of so many bytes in all, in tables, and a cache of 16 MiB.
func cacheLab(t *testing.T, bytes int) (*DB, *clock.Manual, int64) {
	t.Helper()
	return cacheLabOf(t, bytes, func(i int) []byte { return AppendDataKey(nil, fmt.Appendf(nil, "%06d", i), 1, 0) })
}

// cacheLabOf is cacheLab with other keys.
func cacheLabOf(t *testing.T, bytes int, key func(i int) []byte) (*DB, *clock.Manual, int64) {
	t.Helper()
	const cache, value = 16 << 20, 64 << 10
	c := clock.NewManual(time.Unix(0, 0))
	db := openTestState(t, vfs.NewMem(), Options{CacheBytes: cache, MemTableBytes: 512 << 10, Clock: c})
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	for i := range bytes / value {
		set(t, db, key(i), strings.Repeat("v", value))
	}
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	return db, c, cache
}

// walk reads everything and returns how much the cache holds then.
func walk(t *testing.T, db *DB) int64 {
	t.Helper()
	it, err := db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for it.First(); it.Valid(); it.Next() {
		if _, err := it.ValueAndErr(); err != nil {
			t.Fatal(err)
		}
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return db.Metrics().CacheBytes
}

func TestAWideCacheHoldsWhatIsWalkedOverAgain(t *testing.T) {
	t.Parallel()
	db, c, cache := cacheLab(t, 20<<20)
	if got := walk(t, db); got > cache {
		t.Fatalf("the cache holds %d bytes before the first walk, want %d at most", got, cache)
	}
	end := db.WidenCache()
	walk(t, db)
	before := db.Metrics()
	if before.CacheBytes < 20<<20 {
		t.Errorf("while it is wide the cache holds %d bytes", before.CacheBytes)
	}
	walk(t, db)
	if missed := db.Metrics().CacheMisses - before.CacheMisses; missed != 0 {
		t.Errorf("the second walk has missed %d blocks", missed)
	}
	end()
	c.Advance(wideFor - 1)
	if got := db.Metrics().CacheBytes; got < 20<<20 {
		t.Errorf("shortly after a walk the cache holds %d bytes", got)
	}
	c.Advance(longBack)
	if got := db.Metrics().CacheBytes; got > cache {
		t.Errorf("long after a walk the cache holds %d bytes, want %d at most", got, cache)
	}
	if got := walk(t, db); got > cache {
		t.Errorf("a walk that has not asked for it has filled the cache with %d bytes", got)
	}
}

func TestWalksShareAWideCache(t *testing.T) {
	t.Parallel()
	db, c, cache := cacheLab(t, 1<<20)
	want := func(bytes int64, when string) {
		t.Helper()
		if got := db.Metrics().CacheMaxBytes; got != bytes {
			t.Errorf("%s the cache may hold %d bytes, want %d", when, got, bytes)
		}
	}
	want(cache, "at first")
	one, other := db.WidenCache(), db.WidenCache()
	want(wideFactor*cache, "in two walks")
	release := db.ReserveCache(cache / reserveSteps)
	want(wideFactor*cache-cache/reserveSteps, "beside an answer")
	release()
	one()
	one() // again does nothing
	c.Advance(longBack)
	want(wideFactor*cache, "in the other walk")
	other()
	c.Advance(wideFor + narrowEvery)
	if got := db.Metrics().CacheMaxBytes; got <= cache || got >= wideFactor*cache {
		t.Errorf("on its way back the cache may hold %d bytes", got)
	}
	third := db.WidenCache()
	want(wideFactor*cache, "in a third walk")
	c.Advance(longBack)
	want(wideFactor*cache, "in a long walk")
	third()
	c.Advance(longBack)
	want(cache, "after all of them")

	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 50 {
				db.WidenCache()()
			}
		})
	}
	wg.Go(func() {
		for range 50 {
			c.Advance(wideFor)
		}
	})
	wg.Wait()
	c.Advance(longBack)
	want(cache, "after many at once")
	db.WidenCache()() // a timer waits when the database is closed
}

func TestACacheStaysAsItIsForWhatNeverFits(t *testing.T) {
	t.Parallel()
	cases := map[string]func(i int) []byte{
		"keys with their values": func(i int) []byte { return AppendDataKey(nil, fmt.Appendf(nil, "%06d", i), 1, 0) },
		"large values":           func(i int) []byte { return AppendRevKey(nil, SpaceLarge, int64(i+1), 0) },
	}
	for name, key := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, _, cache := cacheLabOf(t, 40<<20, key)
			end := db.WidenCache()
			defer end()
			if got := db.Metrics().CacheMaxBytes; got != cache {
				t.Errorf("the cache may hold %d bytes, want %d as before", got, cache)
			}
		})
	}
}

func TestAWalkMayEndAfterItsDatabase(t *testing.T) {
	t.Parallel()
	c := clock.NewManual(time.Unix(0, 0))
	db := openTestState(t, vfs.NewMem(), Options{Clock: c})
	end, waits := db.WidenCache(), db.WidenCache()
	waits()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	end()
	c.Advance(longBack)
}
