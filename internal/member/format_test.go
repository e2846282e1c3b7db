package member

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// largeValue lies in a record of its own.
func largeValue(letter string) string { return strings.Repeat(letter, 5000) }

// roomy is configOf for requests with such values.
func roomy(t *testing.T, disk storage.FS) Config {
	t.Helper()
	cfg := configOf(t, disk, alone)
	cfg.MaxRequestBytes = 1 << 20
	return cfg
}

// onState opens the state of a member that is stopped.
func onState(t *testing.T, disk *vfs.MemFS, fn func(db *storage.DB) error) {
	t.Helper()
	db, err := storage.OpenState(statePath, storage.Options{FS: disk, Logger: configOf(t, disk, alone).Logger})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(fn(db), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// formatOf returns the format that the state says it has, and how many large values lie apart from their keys in it.
func formatOf(t *testing.T, disk *vfs.MemFS) (format uint32, large int) {
	t.Helper()
	onState(t, disk, func(db *storage.DB) error {
		_, err := db.Get(identityKey, func(v []byte) error {
			id, err := storage.DecodeStateIdentity(v)
			format = id.Format
			return err
		})
		if err != nil {
			return err
		}
		lower, upper := storage.SpaceBounds(storage.SpaceLarge)
		it, err := db.NewIter(&storage.IterOptions{LowerBound: lower, UpperBound: upper})
		if err != nil {
			return err
		}
		for ok := it.First(); ok; ok = it.Next() {
			large++
		}
		return it.Close()
	})
	return format, large
}

// older returns the disk of a member that has k=v and large=aaa… and was stopped, as a release that knows format 1 leaves it.
func older(t *testing.T) *vfs.MemFS {
	t.Helper()
	disk := founded(t)
	m := start(t, roomy(t, disk))
	put(t, m, "large", largeValue("a"))
	identity := m.identity
	stop(t, m)
	if format, large := formatOf(t, disk); format != storage.StateFormat || large != 1 {
		t.Fatalf("a new state has format %d, %d large values", format, large)
	}
	onState(t, disk, func(db *storage.DB) error {
		lower, upper := storage.SpaceBounds(storage.SpaceData)
		it, err := db.NewIter(&storage.IterOptions{LowerBound: lower, UpperBound: upper})
		if err != nil {
			return err
		}
		b := db.NewBatch()
		var l mvcc.Loader
		for ok := it.First(); ok; ok = it.Next() {
			kv, _, err := l.Load(it)
			if err := errors.Join(err, b.Set(it.Key(), kv.Raw(), nil)); err != nil {
				return err
			}
		}
		lower, upper = storage.SpaceBounds(storage.SpaceLarge)
		return errors.Join(l.Close(), it.Close(), b.DeleteRange(lower, upper, nil), db.Commit(b), b.Close(), stampIdentity(db, identity))
	})
	if format, large := formatOf(t, disk); format != 1 || large != 0 {
		t.Fatalf("the older state has format %d, %d large values", format, large)
	}
	return disk
}

// TestACrashAnywhereWhileTheFormatIsRaisedLosesNothing crashes before every operation that writes, from the first start of this release over
// an older state to the end of its first large values: no state that says format 1 holds one of them, and each is opened with all that was
// acknowledged.
func TestACrashAnywhereWhileTheFormatIsRaisedLosesNothing(t *testing.T) {
	t.Parallel()
	disk := older(t)
	var mu sync.Mutex // Pebble writes from goroutines of its own
	type crash struct {
		at           string
		acknowledged bool
		disks        []*vfs.MemFS
	}
	var crashes []crash
	acknowledged := false
	rng := rand.New(rand.NewPCG(3, 4))
	watch := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsRead || op.Kind == errorfs.OpFileClose {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		c := crash{at: fmt.Sprintf("operation %d, kind %d on %s", len(crashes), op.Kind, op.Path), acknowledged: acknowledged}
		for _, kept := range []int{0, 50, 100} {
			c.disks = append(c.disks, disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: kept, RNG: rng}))
		}
		crashes = append(crashes, c)
		return nil
	})
	m := start(t, roomy(t, errorfs.Wrap(disk, watch)))
	put(t, m, "large", largeValue("b"))
	mu.Lock()
	acknowledged = true
	mu.Unlock()
	if err := m.Flush(); err != nil {
		t.Fatal(err)
	}
	stop(t, m)
	if format, large := formatOf(t, disk); format != storage.StateFormat || large != 1 {
		t.Errorf("in the end the state has format %d, %d large values", format, large)
	}
	t.Logf("%d crashes", len(crashes))
	seen := map[string]bool{}
	for _, c := range crashes {
		for _, d := range c.disks {
			format, large := formatOf(t, d)
			if seen[fmt.Sprint(format, large)] = true; format < 2 && large > 0 {
				t.Errorf("%s: the state has format %d and %d large values", c.at, format, large)
			}
			m := start(t, roomy(t, d))
			if got := get(t, m, "large"); got != largeValue("b") && (c.acknowledged || got != largeValue("a")) {
				t.Errorf("%s: the value has %d bytes, acknowledged: %v", c.at, len(got), c.acknowledged)
			}
			stop(t, m)
			if format, _ := formatOf(t, d); format != storage.StateFormat {
				t.Errorf("%s: the next start leaves format %d", c.at, format)
			}
		}
	}
	for _, want := range []string{"1 0", "2 0", "2 1"} {
		if !seen[want] {
			t.Errorf("no crash left format and large values %s, but %v", want, seen)
		}
	}
}

// TestARefusedStartLeavesTheFormat: what is another member's is not changed.
func TestARefusedStartLeavesTheFormat(t *testing.T) {
	t.Parallel()
	disk := older(t)
	replace(t, founded(t), logPath, disk, logPath)
	if err := disk.RemoveAll(identityPath); err != nil {
		t.Fatal(err)
	}
	if m, err := Open(configOf(t, disk, alone)); !errors.Is(err, ErrRefused) {
		t.Fatalf("got %v, %v", m, err)
	}
	if format, _ := formatOf(t, disk); format != 1 {
		t.Errorf("the state has format %d", format)
	}
}
