package rpc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/h2"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

const (
	// gradualFrom is how many bytes of a range's answer are made before the rest is only measured, and made while it is sent.
	gradualFrom = 16 << 20
	// gradualMax is how many answers are made so at a time. Each keeps a view open for as long as its client takes, and so
	// older files and memtables of the database: those beyond it are made whole, within the budget.
	gradualMax = 8
	// readerPatience is how long an answer that keeps a view open waits for a client that takes nothing of it.
	readerPatience = 5 * time.Minute
)

// errChanged cannot happen: a view reads the same twice, and what a store remembers of a range is corrected by all that has changed since.
var errChanged = status.Error(codes.Internal, "ashlar: the rest of a range is not what it was measured to be")

// rest is the end of a large range's answer, which is made from its view while the answer is sent: the message begins with its length, so
// the range is walked twice, first to measure, unless it is remembered how long it is, and then to make. Its memory is that of the pieces on
// their way, which are not counted in the budget: h2 has as much of them as are free to any response.
type rest struct {
	kv      *KV
	view    *mvcc.View
	o       mvcc.RangeOptions // of the second walk
	walked  int64             // keys of the first one
	count   int64             // of keys, as the first walk has told it
	begun   bool              // the first walk has come to it
	whole   bool              // there will be no rest
	length  int               // of fields, and then of tail also
	tail    []byte
	trusted func() error // nil for always
}

// gradual returns what becomes the rest of a range's answer; nil when the answer has to be made whole. Only the order of the keys lets a walk begin
// anywhere.
func (s *KV) gradual(v *mvcc.View, q *apply.Range) *rest {
	o := q.Options()
	if len(o.End) == 0 || o.CountOnly || o.Target != mvcc.SortByKey || o.Order == mvcc.SortDescend {
		return nil
	}
	return &rest{kv: s, view: v, o: o}
}

// walk takes the next key-value of the first walk, which only measures from the first one of the rest on.
func (l *rest) walk(ctx context.Context, r *Response, kv mvcc.KV) error {
	if l.whole || r.Len() < l.kv.gradualFrom || !l.begin(kv) {
		l.walked++
		return r.field(ctx, rangeKVs, kv.Raw())
	}
	return mvcc.ErrMeasure
}

// measured takes key-values into the rest that have this length as fields of the answer: its tag is one of one byte.
func (l *rest) measured(ctx context.Context, r *Response, length int) error {
	l.length += length
	if r.Len()+l.length+headMax+headMax > responseMax {
		return errResponseTooLarge
	}
	return ctx.Err()
}

// begin makes a key-value the first of the rest; false while too many answers have one.
func (l *rest) begin(kv mvcc.KV) bool {
	if l.kv.gradually.Add(1) > gradualMax {
		l.kv.gradually.Add(-1)
		l.whole = true
		return false
	}
	l.o.Key, l.o.End = append([]byte(nil), kv.Key()...), append([]byte(nil), l.o.End...) // requests are used again
	l.o.SkipCount = true
	l.view.WalksFar()
	if l.o.Limit > 0 {
		l.o.Limit -= l.walked
	}
	l.begun = true
	return true
}

// rangeTail ends the first walk.
func (l *rest) rangeTail(res mvcc.RangeResult) {
	if res.More {
		l.tail = appendNumber(l.tail, rangeMore, 1)
	}
	l.tail = appendNumber(l.tail, rangeCount, uint64(res.Count))
	l.length += len(l.tail)
	l.count = res.Count
}

// send makes the rest.
func (l *rest) send(send func(mem.BufferSlice) error) error {
	p := piece{send: send, trusted: l.trusted, left: l.length}
	defer func() { p.drop() }()
	err := l.make(&p)
	if errors.Is(err, errChanged) {
		l.view.ForgetLengths() // so that the next answer is whole
	}
	return err
}

func (l *rest) make(p *piece) error {
	given := l.walked
	_, err := l.view.Range(l.o, func(kv mvcc.KV) error {
		given++
		return p.field(rangeKVs, kv.Raw())
	})
	if err != nil {
		return fmt.Errorf("making the rest of a range: %w", err)
	}
	if l.o.AllKeys() && given != l.count {
		return errChanged
	}
	if err := p.room(len(l.tail)); err != nil {
		return err
	}
	p.buf = append(p.buf, l.tail...)
	if len(p.buf) != p.left {
		return errChanged
	}
	return p.pass()
}

// close ends what the rest holds.
func (l *rest) close() error {
	l.kv.gradually.Add(-1)
	return closing(l.view, nil)
}

// piece is what is collected to be sent at once.
type piece struct {
	send    func(mem.BufferSlice) error
	trusted func() error
	loan    *[]byte // buf's chunk, nil when there is none
	buf     []byte
	left    int // bytes that were announced and not sent
}

// field adds a field.
func (p *piece) field(num uint32, b []byte) error {
	if err := p.room(headMax + len(b)); err != nil {
		return err
	}
	p.buf = append(appendBytesHead(p.buf, num, len(b)), b...)
	return nil
}

// room makes room for n more bytes, in the next piece if need be.
func (p *piece) room(n int) error {
	if cap(p.buf)-len(p.buf) >= n {
		return nil
	}
	if err := p.pass(); err != nil {
		return err
	}
	p.loan = chunkPool.Get(max(n, chunkLarge))
	p.buf = (*p.loan)[:0]
	return nil
}

// pass sends what was collected.
func (p *piece) pass() error {
	if p.loan == nil {
		return nil
	}
	if len(p.buf) > p.left {
		return errChanged
	}
	if p.trusted != nil {
		if err := p.trusted(); err != nil {
			return err
		}
	}
	*p.loan = p.buf
	b := mem.BufferSlice{mem.NewBuffer(p.loan, chunkPool)}
	p.left -= len(p.buf)
	p.loan, p.buf = nil, nil
	return p.send(b)
}

// drop gives back what was not sent.
func (p *piece) drop() {
	if p.loan != nil {
		chunkPool.Put(p.loan)
	}
}

var _ h2.Gradual = (*Response)(nil)

// Pending implements h2.Gradual.
func (r *Response) Pending() int {
	if r == nil || r.rest == nil {
		return 0
	}
	return r.Len()
}

// Make implements h2.Gradual.
func (r *Response) Make(send func(mem.BufferSlice) error) (err error) {
	l := r.rest
	r.rest = nil
	defer func() {
		if e := l.close(); err == nil {
			err = e
		}
	}()
	l.kv.measures.BytesSent.Add(uint64(r.Len() + l.length))
	if err := send(r.take()); err != nil {
		return err
	}
	return l.send(send)
}
