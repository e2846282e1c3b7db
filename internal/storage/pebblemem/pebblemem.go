// Package pebblemem has Pebble keep less memory than its options allow. It reaches into what Pebble does not export, so it is for programs
// that are built with the version of Pebble that it was written for: Use does nothing with any other, and only the program of this module
// calls it. Who embeds a server builds it with a Pebble of their own choice.
package pebblemem

import (
	"reflect"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable/block"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Of Pebble, which what follows was read in: (*DB).freeMemTable, DB.memTableRecycle and what uses them, and tempBufferPool. They are to be
// read again before another version is named here.
const (
	pebblePath    = "github.com/cockroachdb/pebble/v2"
	pebbleVersion = "v2.1.7"
)

// Use is called once, before the first database is opened. It says whether this is the version of Pebble that it knows.
func Use() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && isKnown(info.Deps) && use()
}

// isKnown says whether a program of these modules has the version of Pebble that this package knows.
func isKnown(deps []*debug.Module) bool {
	for _, m := range deps {
		if m.Path == pebblePath {
			return m.Version == pebbleVersion && m.Replace == nil
		}
	}
	return false
}

func use() bool {
	give := giveBackKept()
	if give == nil {
		return false
	}
	valueBuffers.New = newValueBuffer
	storage.GiveBackMemTables(give)
	return true
}

// giveBackKept returns what gives back the memory of the memtable that a database keeps for the next one, and says how many bytes of one that it still keeps
// have no memory any more, and whether it kept one; nil if Pebble has no such fields.
//
// The memtable itself stays where it is, as the cache has made room for it: for another one Pebble takes blocks from a full cache while it holds the locks
// that commits wait for. Where its memory can not be given back alone it is freed, as Close does.
func giveBackKept() func(*pebble.DB) (given int64, kept bool) {
	field, arena, ok := keptFields()
	if !ok {
		return nil
	}
	return func(db *pebble.DB) (given int64, kept bool) {
		slot := (*unsafe.Pointer)(unsafe.Add(unsafe.Pointer(db), field))
		mem := atomic.SwapPointer(slot, nil)
		if mem == nil {
			return 0, false
		}
		// A copy: once the memtable is back it is Pebble's.
		buf := *(*buffer)(unsafe.Add(mem, arena))
		if !giveBackPages(unsafe.Slice((*byte)(buf.data), buf.n)) || !atomic.CompareAndSwapPointer(slot, nil, mem) { // another flush has ended
			freeMemTable(db, mem)
			return 0, true
		}
		return int64(buf.n), true
	}
}

// buffer is manual.Buf of Pebble.
type buffer struct {
	data unsafe.Pointer
	n    uintptr
}

// keptFields returns where a database names the memtable that it keeps, and where a memtable has its buffer.
func keptFields() (kept, arena uintptr, ok bool) {
	f, ok := reflect.TypeFor[pebble.DB]().FieldByName("memTableRecycle")
	if !ok || f.Type.String() != "atomic.Pointer["+pebblePath+".memTable]" {
		return 0, 0, false
	}
	buf, ok := f.Type.Field(0).Type.Elem().Elem().FieldByName("arenaBuf") // of [0]*memTable
	if !ok || buf.Type.NumField() != reflect.TypeFor[buffer]().NumField() {
		return 0, 0, false
	}
	for i := range buf.Type.NumField() {
		own, its := reflect.TypeFor[buffer]().Field(i), buf.Type.Field(i)
		if its.Name != own.Name || its.Type != own.Type || its.Offset != own.Offset {
			return 0, 0, false
		}
	}
	return f.Offset, buf.Offset, true
}

//go:linkname freeMemTable github.com/cockroachdb/pebble/v2.(*DB).freeMemTable
func freeMemTable(db *pebble.DB, mem unsafe.Pointer)

// valueBufferBytes has room for a block of the state and for what snappy asks for before it compresses one.
const valueBufferBytes = 20 << 10

// newValueBuffer makes a buffer of what a block of values needs; a larger one makes its buffer grow. While a table is written Pebble keeps the
// values of all versions that are not the newest of their keys in memory, one buffer for each block, of 32 KiB otherwise.
func newValueBuffer() any {
	b := new(block.TempBuffer)
	b.Resize(valueBufferBytes)
	b.Reset()
	return b
}

//go:linkname valueBuffers github.com/cockroachdb/pebble/v2/sstable/block.tempBufferPool
var valueBuffers sync.Pool
