package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// change is what a put of one key at one revision writes, but for what counts and runs are.
func change(t *testing.T, b *Batch, user string, rev int64) {
	t.Helper()
	value := make([]byte, 64)
	rand.NewChaCha8([32]byte(binary.BigEndian.AppendUint64(make([]byte, 24), uint64(rev)))).Read(value) // it never fails
	for _, r := range []struct{ key, value []byte }{
		{AppendDataKey(nil, []byte(user), rev, 0), value},
		{AppendRevKey(nil, SpaceHistory, rev, 0), []byte(user)},
		{AppendPlainKey(nil, SpaceMeta, []byte("applied")), value[:8]},
	} {
		if err := b.Set(r.key, r.value, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// commit commits what fill puts into a batch, and flushes it.
func commit(t *testing.T, db *DB, fill func(b *Batch)) {
	t.Helper()
	b := db.NewBatch()
	defer b.Close()
	fill(b)
	if err := db.Commit(b); err != nil {
		t.Fatal(err)
	}
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until done says so.
func eventually(t *testing.T, db *DB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(30 * time.Second); !done(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s is not so:\n%s", what, db.p.Metrics())
		}
	}
}

// tablesOfHistory returns how many tables of the newest level, and of those below it, have nothing but history. The test fails if one has other records beside it.
func tablesOfHistory(t *testing.T, db *DB) (newest, below int) {
	t.Helper()
	levels, err := db.p.SSTables()
	if err != nil {
		t.Fatal(err)
	}
	for level, tables := range levels {
		for _, table := range tables {
			switch first, last := table.Smallest.UserKey[0], table.Largest.UserKey[0]; {
			case first > SpaceHistory || last < SpaceHistory:
			case first != last:
				t.Errorf("a table of level %d has keys from %c to %c", level, first, last)
			case level == 0:
				newest++
			default:
				below++
			}
		}
	}
	return newest, below
}

// longKey makes history of some size: one is named in each record of it.
func longKey(n int64) string { return fmt.Sprintf("key %d ", n) + strings.Repeat("long ", 8000) }

// TestNewHistoryIsMovedDownAsItIs: beside puts of keys in any order, and what a compaction of the store deletes, the history of each flush goes below
// the newest level, where it is not written again.
func TestNewHistoryIsMovedDownAsItIs(t *testing.T) {
	t.Parallel()
	for name, deletes := range map[string]bool{"puts": false, "puts beside deletions of older history": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := openTestState(t, vfs.NewMem(), Options{})
			defer db.Close()
			const flushes, each = 3, 40 // fewer than what makes a compaction due
			rev := int64(1)
			for range flushes {
				commit(t, db, func(b *Batch) {
					if oldest := rev - each; deletes && oldest > 0 {
						for r := oldest; r < rev; r += 2 {
							if err := b.Delete(AppendRevKey(nil, SpaceHistory, r, 0), nil); err != nil {
								t.Fatal(err)
							}
						}
					}
					for range each {
						rev++
						change(t, b, longKey(rev*7%31), rev)
					}
				})
			}
			eventually(t, db, "all that is new, and that no deletion has had compacted, is moved", func() bool {
				newest, below := tablesOfHistory(t, db)
				return deletes && (newest == 0 || db.p.Metrics().Compact.MoveCount > 0) || newest == 0 && below == flushes
			})
			if m := db.p.Metrics().Compact; !deletes && (m.MoveCount != flushes || m.Count != flushes) {
				t.Errorf("%d compactions, of which %d have moved something", m.Count, m.MoveCount)
			}
			for r := rev - each + 1; r <= rev; r++ {
				if got := get(t, db, AppendRevKey(nil, SpaceHistory, r, 0)); got != longKey(r*7%31) {
					t.Fatalf("the history of %d is of %.10q", r, got)
				}
			}
		})
	}
}

// TestSmallHistoryIsGathered: a member that flushes every few minutes has little of it each time, and tables that touch nothing are merged by nobody. What waits is found
// after a restart.
func TestSmallHistoryIsGathered(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	db := openTestState(t, mem, Options{})
	rev := int64(1)
	for flush := range 4 * gatheredMax {
		commit(t, db, func(b *Batch) {
			for range 2 {
				rev++
				if err := b.Set(AppendRevKey(nil, SpaceHistory, rev, 0), []byte("k"), nil); err != nil {
					t.Fatal(err)
				}
			}
		})
		if flush == gatheredMax/2 {
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			db = openTestState(t, mem, Options{})
		}
	}
	defer func() { _ = db.Close() }()
	eventually(t, db, "it is gathered", func() bool {
		newest, below := tablesOfHistory(t, db)
		return newest < gatheredMax && newest+below < 2*gatheredMax
	})
	commit(t, db, func(b *Batch) {
		for range 40 {
			rev++
			change(t, b, longKey(rev), rev)
		}
	})
	eventually(t, db, "what was gathered goes before what is large", func() bool {
		newest, below := tablesOfHistory(t, db)
		return newest == 0 && below < gatheredMax
	})
}

// TestKeysThatArePutInOrderDoNotPileUp: the data of each flush touches that of the one before, which counts as one sublevel more each time though no
// key lies in more than two.
func TestKeysThatArePutInOrderDoNotPileUp(t *testing.T) {
	t.Parallel()
	db := openTestState(t, vfs.NewMem(), Options{})
	defer db.Close()
	rev, most := int64(1), int32(0)
	for flush := range 100 {
		commit(t, db, func(b *Batch) {
			for i := range 4 { // the last key of this flush is the first one of the next
				rev++
				change(t, b, fmt.Sprintf("key %08d", flush*3+i), rev)
			}
		})
		eventually(t, db, "nothing goes on", func() bool { return db.p.Metrics().Compact.NumInProgress == 0 })
		most = max(most, db.p.Metrics().Levels[0].Sublevels)
	}
	if most >= hurriedSublevels {
		t.Errorf("the newest level has had %d sublevels, and rests end at %d", most, hurriedSublevels)
	}
}

// TestWhatIsLoadedInOrderIsCompactedAsItComes: the tables of its flushes lie beside each other, and no level is to be made of each.
func TestWhatIsLoadedInOrderIsCompactedAsItComes(t *testing.T) {
	t.Parallel()
	db := openTestState(t, vfs.NewMem(), Options{})
	defer db.Close()
	rev, most := int64(1), int32(0)
	value := make([]byte, 256<<10)
	for flush := range chainedSublevels + 3 {
		commit(t, db, func(b *Batch) {
			for i := range 64 {
				rev++
				for _, r := range []struct{ key, value []byte }{
					{AppendDataKey(nil, fmt.Appendf(nil, "key %08d", flush*63+i), rev, 0), value},
					{AppendRevKey(nil, SpaceHistory, rev, 0), []byte("key")},
					{AppendPlainKey(nil, SpaceRuns, fmt.Appendf(nil, "key %08d", flush*63+i)), []byte("run")},
				} {
					if err := b.Set(r.key, r.value, nil); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
		eventually(t, db, "nothing goes on", func() bool { return db.p.Metrics().Compact.NumInProgress == 0 })
		most = max(most, db.p.Metrics().Levels[0].Sublevels)
	}
	if most >= chainedSublevels {
		t.Errorf("the newest level has had %d sublevels", most)
	}
}

// TestHistoryMovesInADatabaseWhoseTablesEndAnywhere: releases before have left such.
func TestHistoryMovesInADatabaseWhoseTablesEndAnywhere(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	if err := MakeDirs(mem, "data/state"); err != nil {
		t.Fatal(err)
	}
	options := stateOptions(Options{MemTableBytes: stateMemTableBytes})
	options.FS = mem
	old, err := pebble.Open("data/state", options)
	if err != nil {
		t.Fatal(err)
	}
	rev := int64(1)
	fill := func(b *Batch) {
		for range 40 {
			rev++
			change(t, b, longKey(rev*7%31), rev)
		}
	}
	for range 3 {
		b := old.NewBatch()
		fill(b)
		if err := old.Apply(b, pebble.NoSync); err != nil {
			t.Fatal(err)
		}
		if err := old.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	db := openTestState(t, mem, Options{})
	defer db.Close()
	for range 2 {
		commit(t, db, fill)
	}
	eventually(t, db, "the old tables are compacted with the first history that moves", func() bool {
		m := db.p.Metrics()
		return m.Compact.Count > m.Compact.MoveCount && m.Compact.NumInProgress == 0
	})
	commit(t, db, fill)
	eventually(t, db, "history alone is moved", func() bool { return db.p.Metrics().Compact.MoveCount > 0 })
	for r := int64(2); r <= rev; r++ {
		if got := get(t, db, AppendRevKey(nil, SpaceHistory, r, 0)); got != longKey(r*7%31) {
			t.Fatalf("the history of %d is of %.10q", r, got)
		}
	}
}

// TestADatabaseThatFailsWhileHistoryMovesIsWholeAfterARestart: whichever write to the manifest fails, what was flushed is there after a restart, and nobody waits for a
// move that will not end.
func TestADatabaseThatFailsWhileHistoryMovesIsWholeAfterARestart(t *testing.T) {
	t.Parallel()
	failures := 0
	for fails := range int64(10) {
		mem := vfs.NewCrashableMem()
		var left atomic.Int64
		left.Store(math.MaxInt64)
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if strings.Contains(op.Path, manifestPrefix) && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && left.Add(-1) < 0 {
				return syscall.EIO
			}
			return nil
		}))
		db := openTestState(t, fs, Options{Fatal: newRecorder().fatal})
		var flushed error
		last := int64(1)
		for n := range gatheredMax {
			if n == gatheredMax-1 {
				left.Store(fails) // of this flush, and of what it makes due
			}
			b := db.NewBatch()
			for rev := last + 1; rev <= last+2; rev++ {
				if err := b.Set(AppendRevKey(nil, SpaceHistory, rev, 0), []byte("k"), nil); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(db.Commit(b), b.Close()); err != nil {
				t.Fatal(err)
			}
			if flushed = db.Flush(); flushed == nil {
				last += 2
			}
		}
		if flushed == nil {
			eventually(t, db, "it has failed or moved", func() bool { return db.Err() != nil || db.p.Metrics().Compact.Count > 0 })
		}
		if db.Err() != nil && flushed == nil {
			failures++
			if _, _, err := db.GetDurable(AppendPlainKey(nil, SpaceMeta, []byte("applied"))); !errors.Is(err, ErrFailed) {
				t.Errorf("with failure %d a durable record: %v", fails, err)
			}
		}
		_ = db.Close() // it returns
		for _, restarted := range []FS{mem.CrashClone(vfs.CrashCloneCfg{}), mem} {
			db := openTestState(t, restarted, Options{})
			for rev := int64(2); rev <= last; rev++ {
				if got := get(t, db, AppendRevKey(nil, SpaceHistory, rev, 0)); got != "k" {
					t.Errorf("with failure %d the history of %d is of %q", fails, rev, got)
				}
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if failures == 0 {
		t.Error("no move has failed")
	}
}
