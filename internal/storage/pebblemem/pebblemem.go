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
	free := freeKept()
	if free == nil {
		return false
	}
	valueBuffers.New = newValueBuffer
	storage.GiveBackMemTables(free)
	return true
}

// freeKept returns what frees the memtable that a database keeps for the next one, as its Close does, and says whether there was one; nil if Pebble
// has no such field.
func freeKept() func(*pebble.DB) bool {
	kept, ok := reflect.TypeFor[pebble.DB]().FieldByName("memTableRecycle")
	if !ok || kept.Type.String() != "atomic.Pointer["+pebblePath+".memTable]" {
		return nil
	}
	return func(db *pebble.DB) bool {
		mem := atomic.SwapPointer((*unsafe.Pointer)(unsafe.Add(unsafe.Pointer(db), kept.Offset)), nil)
		if mem != nil {
			freeMemTable(db, mem)
		}
		return mem != nil
	}
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
