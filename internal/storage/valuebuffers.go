package storage

import (
	"sync"
	_ "unsafe" // for go:linkname

	"github.com/cockroachdb/pebble/v2/sstable/block"
)

// valueBufferBytes has room for a block and for what snappy asks for before it compresses one.
const valueBufferBytes = 10 << 10

// While a table is written Pebble keeps the values of all versions that are not the newest of their keys in memory, a buffer of its pool for each
// block. A new buffer has 32 KiB there; this is what a block of the state needs, and a larger one makes its buffer grow.
func init() {
	valueBuffers.New = func() any {
		b := new(block.TempBuffer)
		b.Resize(valueBufferBytes)
		b.Reset()
		return b
	}
}

//go:linkname valueBuffers github.com/cockroachdb/pebble/v2/sstable/block.tempBufferPool
var valueBuffers sync.Pool
