//go:build cgo && linux

package pebblemem

import (
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

func TestPagesThatAreGivenBackAreNotInMemory(t *testing.T) {
	t.Parallel()
	page := os.Getpagesize()
	all, err := unix.Mmap(-1, 0, 8*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(all) // the process ends soon
	for name, c := range map[string]struct{ from, to, stays int }{
		"whole pages":                     {page, 7 * page, 2},
		"parts of pages at either end":    {page - 1, 6*page + 1, 3},
		"parts of two pages, none whole":  {page / 2, 3 * page / 2, 8},
		"less than what is before a page": {1, 2, 8},
		"nothing":                         {page, page, 8},
	} {
		for i := range all {
			all[i] = 1
		}
		if !giveBackPages(all[c.from:c.to]) {
			t.Errorf("%s: the system has refused it", name)
		}
		if got := pagesInMemory(t, all); got != c.stays {
			t.Errorf("%s: %d of 8 pages are in memory, want %d", name, got, c.stays)
		}
		if all[max(c.from, 1)-1] != 1 || all[c.to] != 1 {
			t.Errorf("%s: what is beside it is lost", name)
		}
	}
}

// pagesInMemory returns how many of the pages b, which begins with one, are.
func pagesInMemory(t *testing.T, b []byte) (n int) {
	t.Helper()
	in := make([]byte, len(b)/os.Getpagesize())
	if _, _, err := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), uintptr(unsafe.Pointer(&in[0]))); err != 0 {
		t.Fatal(err)
	}
	for _, x := range in {
		n += int(x & 1)
	}
	return n
}

func TestAMemTableThatWasGivenBackTakesNothingFromAFullCache(t *testing.T) {
	t.Parallel()
	cache := pebble.NewCache(2 << 20)
	defer cache.Unref()
	db, give := kept(t, cache)
	key := func(i int) string { return fmt.Sprintf("%04d", i) }
	value := strings.Repeat(rand.Text(), 400)
	for i := range 400 {
		flush(t, db, key(i), value)
	}
	fill := func() int64 {
		for i := range 400 {
			v, c, err := db.Get([]byte(key(i)))
			if err != nil || string(v) != value {
				t.Fatalf("key %d: %d bytes, %v", i, len(v), err)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		}
		return db.Metrics().BlockCache.Size
	}
	fill()
	if given, kept := give(db); given == 0 || !kept {
		t.Fatalf("given back %d bytes of what is kept (%t)", given, kept)
	}
	before := fill()
	reserved := db.Metrics().MemTable.ZombieSize
	flushed, err := db.AsyncFlush() // which makes another memtable
	if err != nil {
		t.Fatal(err)
	}
	if now := db.Metrics().BlockCache.Size; now < before {
		t.Errorf("of a cache of %d bytes %d were taken for a memtable of %d", before, before-now, reserved)
	}
	<-flushed
	if got := fill(); got > before {
		t.Errorf("with two memtables as before the cache has grown from %d to %d bytes", before, got)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// BenchmarkMemTableBesideAFullCache times how long a flush holds the locks that commits wait for, with the memtable before given back, or freed.
func BenchmarkMemTableBesideAFullCache(b *testing.B) {
	const memTable, keys = 32 << 20, 40_000
	free := func(db *pebble.DB) (int64, bool) {
		field, _, _ := keptFields()
		mem := atomic.SwapPointer((*unsafe.Pointer)(unsafe.Add(unsafe.Pointer(db), field)), nil)
		if mem != nil {
			freeMemTable(db, mem)
		}
		return 0, mem != nil
	}
	for name, give := range map[string]func(*pebble.DB) (int64, bool){"given back": giveBackKept(), "freed": free} {
		b.Run(name, func(b *testing.B) {
			cache := pebble.NewCache(8 * memTable)
			defer cache.Unref()
			o := &pebble.Options{FS: vfs.NewMem(), Cache: cache, MemTableSize: memTable, DisableWAL: true, Logger: quiet{}}
			for i := range o.Levels {
				o.Levels[i].BlockSize = 16 << 10
			}
			db, err := pebble.Open("db", o)
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close() // it is in memory
			value := make([]byte, 8<<10)
			key := func(i int) []byte { return fmt.Appendf(nil, "%08d", i) }
			for i := range keys {
				_, _ = rand.Read(value) // it never fails
				if err := db.Set(key(i), value, pebble.NoSync); err != nil {
					b.Fatal(err)
				}
			}
			b.ResetTimer()
			for n := 0; b.Loop(); n++ {
				b.StopTimer()
				for i := range keys {
					if _, c, err := db.Get(key((i + n*keys/2) % keys)); err != nil || c.Close() != nil {
						b.Fatal(err)
					}
				}
				if err := db.Set(key(0), value, pebble.NoSync); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				flushed, err := db.AsyncFlush()
				b.StopTimer()
				if err != nil {
					b.Fatal(err)
				}
				<-flushed
				give(db)
				b.StartTimer()
			}
		})
	}
}

// quiet is a logger of Pebble that says nothing but how it ends.
type quiet struct{}

func (quiet) Infof(string, ...any)         {}
func (quiet) Errorf(string, ...any)        {}
func (quiet) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }
