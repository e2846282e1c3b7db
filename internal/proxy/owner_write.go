package proxy

import (
	"context"
	"slices"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// conflictsMax bounds the titles in the way of a write that are dealt with at a time.
const conflictsMax = 100

// span is a key, or a range of keys, that is written.
type span struct{ from, to []byte }

// spansOf adds what an operation may write, in whichever branch.
func spansOf(all []span, op *etcdserverpb.RequestOp) []span {
	add := func(key, end []byte) {
		if !slices.ContainsFunc(all, func(s span) bool { return string(s.from) == string(key) && string(s.to) == string(end) }) {
			all = append(all, span{key, end})
		}
	}
	if p := op.GetRequestPut(); p != nil {
		add(p.Key, nil)
	}
	if d := op.GetRequestDeleteRange(); d != nil {
		add(d.Key, d.RangeEnd)
	}
	if t := op.GetRequestTxn(); t != nil {
		for _, one := range slices.Concat(t.Success, t.Failure) {
			all = spansOf(all, one)
		}
	}
	return all
}

// write carries an operation out, with what it writes owned by this proxy or by nobody. It waits until others have given it up.
// The answer to the operation is the first of the transaction's.
func (o *owner) write(ctx context.Context, op *etcdserverpb.RequestOp, spans []span) (*etcdserverpb.TxnResponse, error) {
	out := passed(ctx)
	for {
		held, err := o.hold(ctx, out, spans)
		if err != nil {
			return nil, err
		}
		q := &etcdserverpb.TxnRequest{Success: []*etcdserverpb.RequestOp{op}}
		for _, s := range spans {
			var end []byte
			if len(s.to) > 0 {
				end = o.titlesEnd(s.to)
			}
			revision := int64(0)
			if e := held[string(s.from)]; e != nil && len(s.to) == 0 {
				revision = e.revision
			}
			q.Compare = append(q.Compare, createdAt(o.title(s.from), end, revision))
			q.Failure = append(q.Failure, getOp(&etcdserverpb.RangeRequest{Key: o.title(s.from), RangeEnd: end, Limit: conflictsMax}))
		}
		keys := make([]string, 0, len(held))
		for key := range held {
			keys = append(keys, key)
			q.Success = append(q.Success, getOp(&etcdserverpb.RangeRequest{Key: []byte(key)}))
		}
		r, err := etcdserverpb.NewKVClient(o.up).Txn(out, q)
		if err != nil { // it may be done, or be done later
			o.settle(held, func(e *owned) { o.forsake(e) })
			return nil, err
		}
		o.newest.saw(r.Header)
		if r.Succeeded {
			for n, key := range keys {
				answer := r.Responses[n+1].GetResponseRange()
				answer.Header = r.Header
				o.settle(map[string]*owned{key: held[key]}, func(e *owned) { o.refresh(e, answer) })
			}
			return r, nil
		}
		if err := o.clear(ctx, out, r, held); err != nil {
			return nil, err
		}
	}
}

// hold marks the keys among spans that the proxy owns as being written, and gives up those within ranges.
func (o *owner) hold(ctx, out context.Context, spans []span) (held map[string]*owned, err error) {
	held, giveBack, awaited := o.mark(spans)
	for _, t := range giveBack {
		if err := o.release(out, t); err != nil {
			o.settle(held, func(*owned) {})
			return nil, err
		}
	}
	if awaited == nil {
		return held, nil
	}
	select {
	case <-awaited:
		return o.hold(ctx, out, spans)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// mark is hold without waiting: giveBack are titles of keys within ranges, which are not owned any more, and are to be released. When a key is
// being acquired nothing is held, and awaited is closed once that has ended.
func (o *owner) mark(spans []span) (held map[string]*owned, giveBack []title, awaited chan struct{}) {
	held = map[string]*owned{}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range spans {
		if len(s.to) == 0 {
			if e := o.owned.keys[string(s.from)]; e != nil && e.answer != nil {
				held[e.key] = e
			} else if e != nil {
				awaited = e.acquired
			}
			continue
		}
		for key, e := range o.owned.keys {
			if !overlap([]byte(key), nil, s.from, s.to) {
				continue
			}
			if e.answer == nil {
				awaited = e.acquired
				continue
			}
			o.leave(e)
			giveBack = append(giveBack, title{string(o.title([]byte(key))), e.revision})
		}
	}
	for key, e := range held {
		if awaited != nil || !o.owned.has(e) { // within a range, too
			delete(held, key)
			continue
		}
		e.writes++
	}
	o.back = append(o.back, giveBack...) // in case that the client goes
	poke(o.wake)
	return held, giveBack, awaited
}

// settle ends a write of keys; what is to be done with those that are still owned is done under the lock.
func (o *owner) settle(held map[string]*owned, do func(e *owned)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range held {
		e.writes--
		if o.owned.has(e) {
			do(e)
		}
	}
}

// refresh takes what a write has made of a key. REQUIRES: o.mu is held.
func (o *owner) refresh(e *owned, answer *etcdserverpb.RangeResponse) {
	leased := slices.ContainsFunc(answer.Kvs, func(kv *mvccpb.KeyValue) bool { return kv.Lease != 0 })
	if leased || proto.Size(answer) > cacheEntryMax { // whoever ends a lease asks for no title
		o.forsake(e)
		return
	}
	if answer.Header.Revision >= e.answer.Header.GetRevision() {
		o.owned.keep(e, answer)
	}
}

// clear gets what was in the way of a write out of it.
func (o *owner) clear(ctx, out context.Context, r *etcdserverpb.TxnResponse, held map[string]*owned) error {
	there := map[string]*mvccpb.KeyValue{}
	for _, one := range r.Responses {
		for _, kv := range one.GetResponseRange().GetKvs() {
			there[string(kv.Key)] = kv
		}
	}
	o.settle(held, func(e *owned) {
		if kv := there[string(o.title([]byte(e.key)))]; kv.GetCreateRevision() != e.revision {
			o.leave(e) // somebody has deleted the title
		}
	})
	o.mu.Lock()
	lease, mine := int64(0), map[string]bool{}
	if o.term != nil {
		lease = o.term.lease
	}
	for name := range there { // what is owned, or being acquired, is held next time
		_, mine[name] = o.owned.keys[o.keyOf(name)]
	}
	o.mu.Unlock()
	for name, kv := range there {
		var err error
		switch {
		case mine[name] && kv.Lease == lease:
		case kv.Lease == lease && lease != 0: // left by an attempt that had no answer, or just given up
			err = o.release(out, title{name, kv.CreateRevision})
		default:
			err = o.revoke(ctx, out, kv)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// revoke asks for a title to be given back, and waits until something may have changed.
func (o *owner) revoke(ctx, out context.Context, kv *mvccpb.KeyValue) error {
	name := string(kv.Key)
	gone := make(chan struct{}, 1)
	o.mu.Lock()
	if o.waiting[name] == nil {
		o.waiting[name] = map[chan struct{}]struct{}{}
	}
	o.waiting[name][gone] = struct{}{}
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if delete(o.waiting[name], gone); len(o.waiting[name]) == 0 {
			delete(o.waiting, name)
		}
	}()
	if string(kv.Value) != revokeValue {
		_, err := etcdserverpb.NewKVClient(o.up).Txn(out, &etcdserverpb.TxnRequest{
			Compare: []*etcdserverpb.Compare{createdAt(kv.Key, nil, kv.CreateRevision)},
			Success: []*etcdserverpb.RequestOp{{Request: &etcdserverpb.RequestOp_RequestPut{
				RequestPut: &etcdserverpb.PutRequest{Key: kv.Key, Value: []byte(revokeValue), IgnoreLease: true}}}}})
		if err != nil {
			return err
		}
	}
	again := o.clock.NewTimer(ownRetry)
	defer again.Stop()
	select {
	case <-gone:
		return nil
	case <-again.C(): // the event may have been missed
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
