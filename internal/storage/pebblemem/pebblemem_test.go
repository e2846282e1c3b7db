package pebblemem

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
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

func TestTheKeptMemTableIsFreedOnce(t *testing.T) {
	t.Parallel()
	db, err := pebble.Open("db", &pebble.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	free := freeKept()
	if free == nil {
		t.Fatal("Pebble has no such field")
	}
	if free(db) {
		t.Error("a memtable was freed before the first flush")
	}
	for range 2 {
		if err := db.Set([]byte("key"), []byte("value"), nil); err != nil {
			t.Fatal(err)
		}
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
		if m := db.Metrics().MemTable; m.ZombieCount != 1 || m.ZombieSize == 0 {
			t.Errorf("after a flush %d memtables are kept, with %d bytes", m.ZombieCount, m.ZombieSize)
		}
		if !free(db) || free(db) {
			t.Error("the kept memtable was not freed once")
		}
		if m := db.Metrics().MemTable; m.ZombieCount != 0 || m.ZombieSize != 0 {
			t.Errorf("%d memtables are kept then, with %d bytes", m.ZombieCount, m.ZombieSize)
		}
	}
	if err := db.Close(); err != nil { // which looks whether all memory was given back
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
