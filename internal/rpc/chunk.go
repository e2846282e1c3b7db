package rpc

import (
	"sync"

	"google.golang.org/grpc/mem"

	"github.com/ashlar-kv/ashlar/internal/invariant"
)

// Sizes of the chunks of a response. What needs more than the smallest gets the next sizes in turn.
const (
	chunkSmall  = 4 << 10
	chunkMedium = 32 << 10
	chunkLarge  = 256 << 10
)

// chunks is a mem.BufferPool of the three sizes. gRPC's default pool clears every buffer it gives out and has
// nothing between 32 KiB and 1 MiB.
type chunks struct{ small, medium, large sync.Pool }

var chunkPool = &chunks{}

func (c *chunks) of(n int) (p *sync.Pool, size int) {
	switch {
	case n <= chunkSmall:
		return &c.small, chunkSmall
	case n <= chunkMedium:
		return &c.medium, chunkMedium
	default:
		return &c.large, chunkLarge
	}
}

// Get implements mem.BufferPool. The content of the buffer may be anything.
func (c *chunks) Get(n int) *[]byte {
	pool, size := c.of(n)
	p, ok := pool.Get().(*[]byte)
	if !ok || cap(*p) < n {
		b := make([]byte, n, max(n, size))
		return &b
	}
	*p = (*p)[:n]
	return p
}

// Put implements mem.BufferPool.
func (c *chunks) Put(p *[]byte) {
	if pool, size := c.of(cap(*p)); cap(*p) == size {
		invariant.Poison(*p)
		pool.Put(p)
	}
}

var _ mem.BufferPool = (*chunks)(nil)
