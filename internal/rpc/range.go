package rpc

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/auth"
	"github.com/ashlar-kv/ashlar/internal/h2"
	"github.com/ashlar-kv/ashlar/internal/measure"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// The fields of RangeResponse beside the header.
const (
	rangeKVs   = 2
	rangeMore  = 3
	rangeCount = 4
)

// streamChunkMin and streamChunkMax bound the messages of a RangeStream: the first is small, so that it comes soon, and
// each is twice as large as the one before. A single key-value may be larger.
const (
	streamChunkMin = 32 << 10
	streamChunkMax = 512 << 10
)

// reading says what is about to be read, and how.
type reading struct {
	need         func(*auth.Judge) error
	serializable bool
	rev          int64 // 0 or less for the newest
	// get is a range that may be answered from memory, nil when a view is needed.
	get *apply.Range
}

// read waits for the barrier unless the read is serializable, and answers a range from memory, or opens a view, of what the client may
// read by permissions that are as new as what is read. A view that was opened has to be closed.
func (s *KV) read(ctx context.Context, x reading) (*mvcc.View, *Response, error) {
	for {
		var v *mvcc.View
		var r *Response
		a, err := s.gate.admit(ctx, x.need)
		if err != nil {
			return nil, nil, err
		}
		if !x.serializable {
			if err := s.member.ReadBarrier(ctx); err != nil {
				return nil, nil, err
			}
		}
		if x.get != nil {
			r, err = s.remembered(ctx, x.get)
		}
		if r == nil && err == nil {
			v, err = s.member.View(x.rev)
		}
		if err != nil {
			return nil, nil, err
		}
		settled, err := a.settled(ctx)
		if settled && err == nil {
			return v, r, nil
		}
		// Permissions have changed since they were looked at: what was read may be forbidden now.
		if r != nil {
			r.drop()
		} else {
			err = closing(v, err)
		}
		if err != nil {
			return nil, nil, err
		}
	}
}

// view is read of what needs a view.
func (s *KV) view(ctx context.Context, serializable bool, rev int64, need func(*auth.Judge) error) (*mvcc.View, error) {
	v, _, err := s.read(ctx, reading{need: need, serializable: serializable, rev: rev})
	return v, err
}

// remembered answers a range from memory; nil when the state has to be looked at.
func (s *KV) remembered(ctx context.Context, q *apply.Range) (*Response, error) {
	kv, res, ok := s.member.Newest(q.Options())
	if !ok {
		return nil, nil
	}
	r := newResponse(s.budget)
	r.header(s.header(res.Rev))
	if kv.Exists() {
		if err := r.field(ctx, rangeKVs, kv.Raw()); err != nil {
			r.drop()
			return nil, err
		}
	}
	if err := r.rangeTail(ctx, res); err != nil {
		r.drop()
		return nil, err
	}
	return r, nil
}

// mayRead is the need of a range.
func mayRead(q *apply.Range) func(*auth.Judge) error {
	return func(j *auth.Judge) error { return apply.PermitRange(j, q) }
}

// askedStore tells by the error of a view whether the store was asked for the range, as far as which revisions it has.
func askedStore(err error) bool {
	return err == nil || errors.Is(err, mvcc.ErrCompacted) || errors.Is(err, mvcc.ErrFutureRevision)
}

// Range answers a RangeRequest.
func (s *KV) Range(ctx context.Context, req *Request) (_ *Response, err error) {
	q := &req.get
	if err := checkRange(q); err != nil {
		return nil, err
	}
	begin, asked := time.Now(), false
	defer func() {
		s.measures.RangeRequests.Of(err).Took(time.Since(begin))
		if asked {
			s.measures.ranged(begin, err)
		}
	}()
	v, r, err := s.read(ctx, reading{need: mayRead(q), serializable: q.Serializable, rev: q.Revision, get: q})
	asked = askedStore(err)
	if err == nil && r == nil {
		r, err = s.rangeOf(ctx, v, q, len(q.RangeEnd) > 0 && h2.SendsGradually(ctx))
	}
	if err != nil {
		return nil, err
	}
	if r.rest != nil {
		h2.BoundWaits(ctx, s.readerPatience)
	}
	measure.PhasesOf(ctx).Enter(measure.Answering)
	s.measures.cost(q.Key, len(req.raw)+r.Len())
	return r, nil
}

// rangeOf answers a range from a view, and closes it, unless the answer has a rest that needs it, which it may if it is sent gradually. The key-values
// go from the store's iterator into the response's chunks.
func (s *KV) rangeOf(ctx context.Context, v *mvcc.View, q *apply.Range, gradually bool) (r *Response, err error) {
	defer func() {
		if err != nil || r.rest == nil {
			err = closing(v, err)
		}
	}()
	measure.PhasesOf(ctx).Enter(measure.ReadingKeys)
	r = newResponse(s.budget)
	r.header(s.header(v.Current()))
	o := q.Options()
	o.Hold, o.Ended = r.hold(ctx), ctx.Err
	emit := func(kv mvcc.KV) error { return r.field(ctx, rangeKVs, kv.Raw()) }
	var l *rest
	if gradually {
		l = s.gradual(v, q)
	}
	if l != nil {
		emit = func(kv mvcc.KV) error { return l.walk(ctx, r, kv) }
		o.Measure = func(length int) error { return l.measured(ctx, r, length) }
	}
	res, err := v.Range(o, emit)
	r.release(0)
	switch {
	case l != nil && l.begun:
		l.rangeTail(res)
		r.rest = l
	case err == nil:
		err = r.rangeTail(ctx, res)
	}
	if err != nil {
		r.drop()
		return nil, err
	}
	if len(q.RangeEnd) > 0 && r.rest == nil && s.strides.far(r.Len(), s.gradualFrom, time.Now()) {
		v.WalksFar()
	}
	return r, nil
}

// closing closes a view and keeps the first error.
func closing(v *mvcc.View, err error) error {
	if e := v.Close(); err == nil {
		return e
	}
	return err
}

func (r *Response) rangeTail(ctx context.Context, res mvcc.RangeResult) error {
	if res.More {
		if err := r.number(ctx, rangeMore, 1); err != nil {
			return err
		}
	}
	return r.number(ctx, rangeCount, uint64(res.Count))
}

// rangeStreamResponse is the only field of RangeStreamResponse.
const rangeStreamResponse = 1

func handleRangeStream(srv any, stream grpc.ServerStream) error {
	req := &Request{method: MethodRangeStream}
	defer req.free()
	if err := stream.RecvMsg(req); err != nil {
		return err
	}
	return toStatus(srv.(*KV).rangeStream(req, stream))
}

// rangeStream answers a RangeRequest in messages of bounded size. Header, more and count are in the last one. A client
// that reads slowly holds the view, and so the database's older files, but no more than a message in memory; one that reads nothing, for
// readerPatience.
func (s *KV) rangeStream(req *Request, stream grpc.ServerStream) (err error) {
	ctx := stream.Context()
	q := &req.get
	if err := checkRangeStream(q); err != nil {
		return err
	}
	begin := time.Now()
	v, err := s.view(ctx, q.Serializable, q.Revision, mayRead(q))
	if askedStore(err) {
		defer func() { s.measures.ranged(begin, err) }()
	}
	if err != nil {
		return err
	}
	defer func() { err = closing(v, err) }()
	h2.BoundWaits(ctx, s.readerPatience)

	o := q.Options()
	o.Target = mvcc.SortByKey // without an order the target has no say
	limit := streamChunkMin
	r := newResponse(s.budget)
	defer func() { r.drop() }() // of what an error left
	sent := 0
	res, err := v.Range(o, func(kv mvcc.KV) error {
		if r.Len() > 0 && r.Len()+len(kv.Raw()) > limit {
			if sent += r.Len(); sent >= s.gradualFrom {
				v.WalksFar()
			}
			r.wrap(rangeStreamResponse, nil)
			if err := stream.SendMsg(r); err != nil {
				return err
			}
			limit = min(2*limit, streamChunkMax)
			r = newResponse(s.budget)
		}
		return r.field(ctx, rangeKVs, kv.Raw())
	})
	if err != nil {
		return err
	}
	if err := r.rangeTail(ctx, res); err != nil {
		return err
	}
	r.wrap(rangeStreamResponse, s.header(v.Current()).append(nil))
	return stream.SendMsg(r)
}
