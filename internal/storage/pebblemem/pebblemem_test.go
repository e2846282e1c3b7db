package pebblemem

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestThePebbleOfThisModuleIsKnown(t *testing.T) {
	t.Parallel()
	mod, err := os.ReadFile(filepath.Join("..", "..", "..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(mod), "\t"+pebblePath+" "+pebbleVersion+"\n") {
		t.Errorf("go.mod has another Pebble than %s: read again there what this package uses, and name the new version", pebbleVersion)
	}
}

func TestAnotherPebbleIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		deps []*debug.Module
		want bool
	}{
		"this one":          {[]*debug.Module{{Path: "other", Version: "v1.0.0"}, {Path: pebblePath, Version: pebbleVersion}}, true},
		"a later one":       {[]*debug.Module{{Path: pebblePath, Version: "v2.2.0"}}, false},
		"one in its place":  {[]*debug.Module{{Path: pebblePath, Version: pebbleVersion, Replace: &debug.Module{Path: "../pebble"}}}, false},
		"nothing is known":  {nil, false},
		"an earlier module": {[]*debug.Module{{Path: "github.com/cockroachdb/pebble", Version: pebbleVersion}}, false},
	} {
		if got := isKnown(c.deps); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}

func TestTheMemoryOfTheKeptMemTableIsGivenBack(t *testing.T) {
	t.Parallel()
	db, give := kept(t, nil)
	for range 2 {
		flush(t, db, "key", "value")
		if m := db.Metrics().MemTable; m.ZombieCount != 1 || m.ZombieSize == 0 {
			t.Errorf("after a flush %d memtables are kept, with %d bytes", m.ZombieCount, m.ZombieSize)
		}
		given, kept := give(db)
		if m := db.Metrics().MemTable; !kept || int64(m.ZombieSize) != given {
			t.Errorf("of %d bytes that are kept then (%t) %d have no memory", m.ZombieSize, kept, given)
		}
		if given > 0 {
			continue
		}
		if _, kept := give(db); kept {
			t.Error("a memtable was kept that had been freed")
		}
	}
	if err := db.Close(); err != nil { // which looks whether all memory was given back
		t.Error(err)
	}
}

// kept returns a database and what gives back the memory of the memtable that it keeps.
func kept(t *testing.T, cache *pebble.Cache) (*pebble.DB, func(*pebble.DB) (int64, bool)) {
	t.Helper()
	db, err := pebble.Open("db", &pebble.Options{FS: vfs.NewMem(), Cache: cache})
	if err != nil {
		t.Fatal(err)
	}
	give := giveBackKept()
	if give == nil {
		t.Fatal("Pebble has no such fields")
	}
	if _, kept := give(db); kept {
		t.Error("a memtable was kept before the first flush")
	}
	return db, give
}

func flush(t *testing.T, db *pebble.DB, key, value string) {
	t.Helper()
	if err := db.Set([]byte(key), []byte(value), nil); err != nil {
		t.Fatal(err)
	}
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
}

// TestNothingIsLostWhileMemoryIsGivenBack: neither what is written to the memtable that is taken into use meanwhile, nor what a read sees of one that was flushed.
func TestNothingIsLostWhileMemoryIsGivenBack(t *testing.T) {
	t.Parallel()
	const rounds, keys = 50, 200
	db, give := kept(t, nil)
	var ended atomic.Bool
	var giving sync.WaitGroup
	giving.Go(func() {
		for !ended.Load() {
			give(db)
			runtime.Gosched()
		}
	})
	end := sync.OnceFunc(func() { ended.Store(true); giving.Wait() })
	defer end()
	key := func(i int) []byte { return fmt.Appendf(nil, "%04d", i) }
	value := func(round, i int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%04d%04d", round, i), 100) }
	for round := range rounds {
		for i := range keys {
			if err := db.Set(key(i), value(round, i), nil); err != nil {
				t.Fatal(err)
			}
			v, c, err := db.Get(key(i / 2))
			if err != nil || !bytes.Equal(v, value(round, i/2)) || c.Close() != nil {
				t.Fatalf("round %d: key %d is %q, %v", round, i/2, v, err)
			}
		}
		it, err := db.NewIter(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
		seen := 0
		for ok := it.First(); ok; ok = it.Next() {
			if !bytes.Equal(it.Key(), key(seen)) || !bytes.Equal(it.Value(), value(round, seen)) {
				t.Fatalf("round %d: key %d is seen as %q", round, seen, it.Key())
			}
			seen++
		}
		if err := it.Close(); err != nil || seen != keys {
			t.Fatalf("round %d: %d keys are seen, %v", round, seen, err)
		}
	}
	end()
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

func TestUsedBuffersOfValueBlocksHaveRoomForABlockOnly(t *testing.T) {
	t.Parallel()
	if !use() {
		t.Fatal("Pebble has no such field")
	}
	const more = 1000 // than other tests have given back
	var last *block.TempBuffer
	for range more {
		last = block.NewTempBuffer()
	}
	if got := cap(last.Data()); got != valueBufferBytes {
		t.Errorf("a new buffer has %d bytes, want %d", got, valueBufferBytes)
	}
}
