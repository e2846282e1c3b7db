package rpc

import (
	"math/bits"
	"sync"

	"google.golang.org/grpc/mem"

	"github.com/ashlar-kv/ashlar/internal/invariant"
)

// Sizes of the buffers that requests are joined in: five quarters of the powers of two between these exponents, so
// that a value of a round size and its key fit into the buffer next above it. The largest holds what
// --max-request-bytes allows by default; more has memory of its own.
const (
	requestExponentMin = 9
	requestExponentMax = 21
)

// requestBuffers is a mem.BufferPool of those sizes. gRPC's default pool has nothing between 32 KiB and 1 MiB, and clears
// the whole of each buffer that it gives out: a thousand requests of 64 KiB had a gigabyte.
type requestBuffers [requestExponentMax - requestExponentMin + 1]sync.Pool

var requestPool = new(requestBuffers)

// of returns the pool of the smallest buffers that hold n bytes, and their size; none for more than the largest.
func (r *requestBuffers) of(n int) (p *sync.Pool, size int) {
	exponent := requestExponentMin
	if n > 0 {
		// 2^k < n <= 2^(k+1): five quarters of 2^k may do.
		exponent = max(bits.Len(uint(n-1))-1, requestExponentMin)
	}
	for ; exponent <= requestExponentMax; exponent++ {
		if size := 5 << exponent / 4; n <= size {
			return &r[exponent-requestExponentMin], size
		}
	}
	return nil, n
}

// Get implements mem.BufferPool. The content of the buffer may be anything.
func (r *requestBuffers) Get(n int) *[]byte {
	pool, size := r.of(n)
	if pool != nil {
		if p, ok := pool.Get().(*[]byte); ok {
			*p = (*p)[:n]
			return p
		}
	}
	b := make([]byte, n, size)
	return &b
}

// Put implements mem.BufferPool. Memory that is not of one of the sizes is left to the collector.
func (r *requestBuffers) Put(p *[]byte) {
	if pool, size := r.of(cap(*p)); pool != nil && cap(*p) == size {
		invariant.Poison(*p)
		pool.Put(p)
	}
}

var _ mem.BufferPool = (*requestBuffers)(nil)
