package storage

import (
	"fmt"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/pacing"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// waitingCompactions has some compactions to be run, as Pebble would. Those that were begun are in a channel.
type waitingCompactions struct {
	allowed int
	waiting int
	begun   chan pebble.CompactionGrantHandle
}

func (w *waitingCompactions) GetAllowedWithoutPermission() int { return w.allowed }

func (w *waitingCompactions) GetWaitingCompaction() (bool, pebble.WaitingCompaction) {
	return w.waiting > 0, pebble.WaitingCompaction{}
}

func (w *waitingCompactions) Schedule(h pebble.CompactionGrantHandle) bool {
	if w.waiting == 0 {
		return false
	}
	w.waiting--
	w.begun <- h
	return true
}

func TestCompactionsRunBesideEachOtherAsAllowed(t *testing.T) {
	t.Parallel()
	db := &waitingCompactions{allowed: 1, begun: make(chan pebble.CompactionGrantHandle, 10)}
	s := &compactionScheduler{}
	s.Register(2, db)
	expect := func(what string, begun, running int) {
		t.Helper()
		if len(db.begun) != begun || s.running != running {
			t.Fatalf("%s: %d were begun and %d run, want %d and %d", what, len(db.begun), s.running, begun, running)
		}
	}
	ok, first := s.TrySchedule()
	if !ok {
		t.Fatal("the first one is refused")
	}
	if ok, _ := s.TrySchedule(); ok {
		t.Fatal("two run where one may")
	}
	db.waiting = 3
	expect("the first one runs", 0, 1)
	first.Done()
	expect("it has ended", 1, 1)

	db.allowed = 2
	s.UpdateGetAllowedWithoutPermission()
	second, third := <-db.begun, <-db.begun // the latter by a goroutine that the call has begun
	s.grants.Wait()
	expect("two may run", 0, 2)

	db.allowed = 0
	second.Done()
	expect("more run than may", 0, 1)
	third.Done()
	fourth := <-db.begun
	expect("one always may", 0, 1)
	fourth.Done()
	expect("none waits", 0, 0)

	ok, last := s.TrySchedule()
	if !ok {
		t.Fatal("one is refused after the others have ended")
	}
	if ok, _ := s.TrySchedule(); ok {
		t.Fatal("two run where one may")
	}
	s.Unregister()
	db.waiting = 1
	last.Done()
	s.UpdateGetAllowedWithoutPermission()
	s.grant()
	if ok, _ := s.TrySchedule(); ok {
		t.Error("one may run after the end")
	}
	expect("after the end", 0, 0)
}

func TestACompactionRestsInItsOwnGoroutine(t *testing.T) {
	t.Parallel()
	c := newWorkingClock()
	r := &requests{come: true}
	const keys, rounds = 128, 100
	db := openTestState(t, vfs.NewMem(), Options{Clock: c, Asked: r.asked})
	defer closeState(t, db)
	for round := range rounds {
		for key := range keys {
			set(t, db, AppendDataKey(nil, fmt.Appendf(nil, "key-%03d", key), int64(round+1), 0), "")
		}
		if round%(rounds/2) == 0 { // tables that lie on each other; one alone would be moved down
			if err := db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	c.Advance(lookEvery)
	c.took()
	if err := db.CompactAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	rests := c.took()
	if len(rests) < rounds { // by its writer alone two
		t.Errorf("it rests %d times, want once for each 128 of %d records at least", len(rests), rounds*keys)
	}
	for _, d := range rests {
		if d <= 0 || d > pacing.RestMax {
			t.Errorf("it rests %s, want %s at most", d, pacing.RestMax)
		}
	}
}
