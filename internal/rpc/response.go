package rpc

import (
	"context"
	"math"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// responseMax is the largest message that gRPC can frame for the clients there are.
const responseMax = math.MaxInt32

// freeBytes of each response are not counted in the budget.
const freeBytes = 1 << 20

// errResponseTooLarge is returned for a response above responseMax.
var errResponseTooLarge = status.Errorf(codes.ResourceExhausted,
	"ashlar: the response is larger than %d bytes: ask for less with limit or keys_only, or use RangeStream", responseMax)

// headMax is the most that tag and length, or tag and number, of a field may take.
const headMax = 11

// Response is an encoded response message in chunks. It belongs to one goroutine and is handed on once, to the
// codec.
type Response struct {
	chunks  mem.BufferSlice
	array   [1]mem.Buffer // chunks stands here while there is one
	cur     []byte        // what is not yet in chunks; has room up to its capacity
	loan    *[]byte       // cur's chunk; nil when cur is no chunk
	counted bool          // cur's chunk is one of the budget
	size    int           // without cur
	share   share
	work    int64 // bytes held to make the response; those above freeBytes count
	kept    int64 // bytes of the body to come that count
	rest    *rest // what is made once the rest of the response is sent; nil for nothing
	inline  [128]byte
}

func newResponse(b *budget) *Response {
	r := &Response{share: share{b: b}}
	r.cur = r.inline[:0]
	r.chunks = r.array[:0]
	return r
}

// Len returns the length of the encoded message.
func (r *Response) Len() int {
	n := r.size + len(r.cur)
	if r.rest != nil {
		n += r.rest.length
	}
	return n
}

// header appends the response's header, field 1.
func (r *Response) header(h header) { r.cur = h.append(r.cur) } // inline has room for it

// number appends a field that holds a number, unless it is 0.
func (r *Response) number(ctx context.Context, num uint32, n uint64) error {
	if err := r.room(ctx, headMax+headMax); err != nil {
		return err
	}
	r.cur = appendNumber(r.cur, num, n)
	return nil
}

// room makes cur have room for n more bytes in one piece.
func (r *Response) room(ctx context.Context, n int) error {
	if cap(r.cur)-len(r.cur) >= n {
		return nil
	}
	return r.next(ctx, n)
}

// write appends p, over as many chunks as it needs.
func (r *Response) write(ctx context.Context, p []byte) error {
	for {
		n := copy(r.cur[len(r.cur):cap(r.cur)], p)
		r.cur = r.cur[:len(r.cur)+n]
		if p = p[n:]; len(p) == 0 {
			return nil
		}
		if err := r.next(ctx, len(p)); err != nil {
			return err
		}
	}
}

// field appends a field that holds p.
func (r *Response) field(ctx context.Context, num uint32, p []byte) error {
	if r.Len()+len(p)+headMax > responseMax {
		return errResponseTooLarge
	}
	n := headMax
	if r.loan == nil {
		// Looking ahead gets a small response one chunk that all of it fits in.
		n += len(p)
	}
	if err := r.room(ctx, n); err != nil {
		return err
	}
	r.cur = appendBytesHead(r.cur, num, len(p))
	return r.write(ctx, p)
}

// attach appends the encoded fields in body, without a copy when they are many. The response keeps body.
func (r *Response) attach(body []byte) error {
	if r.Len()+len(body) > responseMax {
		return errResponseTooLarge
	}
	if len(body) <= cap(r.cur)-len(r.cur) {
		r.cur = append(r.cur, body...)
		return nil
	}
	r.seal()
	if r.kept > 0 { // release has left it counted
		r.cur, r.loan, r.counted, r.kept = body, &body, true, 0
		r.seal()
		return nil
	}
	r.cur = body
	r.seal()
	return nil
}

// hold returns a function that counts bytes held to make the response, waiting for room in the budget. The first freeBytes
// are not counted.
func (r *Response) hold(ctx context.Context) func(bytes int) error {
	return func(bytes int) error {
		before := max(r.work, freeBytes)
		r.work += int64(bytes)
		if n := r.work - before; n > 0 {
			if err := r.share.grow(ctx, n); err != nil {
				r.work -= int64(bytes)
				return err
			}
		}
		return nil
	}
}

// release gives back what hold has counted, but for the body that attach is to take.
func (r *Response) release(body int) {
	counted := max(r.work-freeBytes, 0) + r.kept
	r.work, r.kept = 0, 0
	if body > freeBytes && int64(body) <= counted {
		r.kept = int64(body)
	}
	r.share.shrink(counted - r.kept)
}

// wrap makes what was built the tail of the field num of a message whose length-delimited content begins with head.
func (r *Response) wrap(num uint32, head []byte) {
	r.seal()
	front := appendBytesHead(make([]byte, 0, headMax+len(head)), num, len(head)+r.size)
	front = append(front, head...)
	r.chunks = slices.Insert(r.chunks, 0, mem.Buffer(mem.SliceBuffer(front)))
	r.size += len(front)
}

// next starts the next chunk, of a size that suits n more bytes and what came before.
func (r *Response) next(ctx context.Context, n int) error {
	if r.loan == nil && len(r.chunks) == 0 && len(r.cur)+n <= chunkSmall {
		// The first bytes, in the response itself so far, move along.
		r.loan = chunkPool.Get(chunkSmall)
		r.cur = append((*r.loan)[:0], r.cur...)
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err // nobody waits for what can be large
	}
	r.seal()
	size := chunkMedium
	if r.size+n > 2*chunkMedium {
		size = chunkLarge
	}
	counted := r.size >= freeBytes
	if counted {
		if err := r.share.grow(ctx, int64(size)); err != nil {
			return err
		}
	}
	r.loan, r.counted = chunkPool.Get(size), counted
	r.cur = (*r.loan)[:0]
	return nil
}

// seal moves cur into chunks.
func (r *Response) seal() {
	if r.loan == nil {
		if len(r.cur) > 0 {
			r.append(mem.SliceBuffer(r.cur))
		}
		return
	}
	*r.loan = r.cur
	if r.counted {
		r.append(mem.NewBuffer(r.loan, &r.share))
	} else {
		r.append(mem.NewBuffer(r.loan, chunkPool))
	}
	r.loan = nil
}

func (r *Response) append(b mem.Buffer) {
	r.size += len(r.cur)
	r.chunks = append(r.chunks, b)
	r.cur = nil
}

// take hands the chunks over; the response is empty then. REQUIRES: it has no rest.
func (r *Response) take() mem.BufferSlice {
	r.seal()
	r.share.finish()
	c := r.chunks
	r.chunks, r.size = nil, 0
	return c
}

// drop gives the memory of a response back that will not be sent.
func (r *Response) drop() {
	r.release(0)
	if r.rest != nil {
		_ = r.rest.close() // nothing was read that counts
		r.rest = nil
	}
	c := r.take()
	c.Free()
}
