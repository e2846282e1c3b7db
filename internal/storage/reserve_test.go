package storage

import (
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestReservingMakesTheCacheSmaller(t *testing.T) {
	t.Parallel()
	db, _, cache := cacheLab(t, 20<<20)
	rest := cache - cache*reserveStepsMax/reserveSteps
	if got := walk(t, db); got <= rest {
		t.Fatalf("the cache holds %d bytes; the rest of this test wants more than %d", got, rest)
	}
	release := db.ReserveCache(cache) // more than may be
	if got := db.Metrics().CacheBytes; got > rest {
		t.Errorf("with a reservation the cache holds %d bytes, want %d at most", got, rest)
	}
	if got := walk(t, db); got > rest {
		t.Errorf("after another scan the cache holds %d bytes, want %d at most", got, rest)
	}
	release()
	if got := walk(t, db); got <= rest {
		t.Errorf("when it was released the cache has filled to only %d bytes", got)
	}
}

func TestReservationsAreBoundedOverAllCallers(t *testing.T) {
	t.Parallel()
	const step = 1 << 20
	db := openTestState(t, vfs.NewMem(), Options{CacheBytes: reserveSteps * step})
	want := func(steps int64) {
		t.Helper()
		if got := db.Metrics().CacheReserved; got != steps*step {
			t.Errorf("%d bytes are reserved, want %d steps", got, steps)
		}
	}
	little := db.ReserveCache(1)
	want(1)
	much := db.ReserveCache(100 * step)
	want(reserveStepsMax)
	more := db.ReserveCache(2 * step)
	much()
	want(3)
	much() // again does nothing
	want(3)
	more()
	want(1)
	little()
	want(0)

	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for j := range 20 {
				release := db.ReserveCache(int64(i*j) << 16)
				if got := db.Metrics().CacheReserved; got > reserveStepsMax*step {
					t.Errorf("%d bytes are reserved", got)
				}
				release()
			}
		})
	}
	wg.Wait()
	want(0)

	late := db.ReserveCache(3 * step)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	late()                  // after Close
	db.ReserveCache(step)() // no more
	if got := db.cache.reserved(); got != 0 {
		t.Errorf("%d bytes are reserved of a closed database", got)
	}
}
