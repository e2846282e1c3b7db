package proxy

import (
	"bytes"
	"context"
	"strings"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// createdAt demands of a key, or of all keys of a range, that they were created at a revision; 0 is never.
func createdAt(key, end []byte, revision int64) *etcdserverpb.Compare {
	return &etcdserverpb.Compare{Key: key, RangeEnd: end, Target: etcdserverpb.Compare_CREATE, Result: etcdserverpb.Compare_EQUAL,
		TargetUnion: &etcdserverpb.Compare_CreateRevision{CreateRevision: revision}}
}

func getOp(q *etcdserverpb.RangeRequest) *etcdserverpb.RequestOp {
	return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestRange{RequestRange: q}}
}

// title returns the title of a key, both as they are upstream.
func (o *owner) title(key []byte) []byte { return o.titles.key(bytes.TrimPrefix(key, []byte(o.space))) }

// keyOf returns the key of a title.
func (o *owner) keyOf(title string) string {
	return string(o.space) + strings.TrimPrefix(title, string(o.titles))
}

// titlesEnd returns the end of the titles of a range of keys.
func (o *owner) titlesEnd(end []byte) []byte {
	if rest, ok := bytes.CutPrefix(end, []byte(o.space)); ok {
		return o.titles.end(rest)
	}
	return o.titles.after()
}

// answers tells whether a read may be answered by whoever owns its key. One with a token is not, since rights may
// change, nor one that demands a leader.
func (o *owner) answers(who identity, q *etcdserverpb.RangeRequest) bool {
	return who == identity{} && len(q.Key) > 0 && len(q.RangeEnd) == 0 && q.Revision == 0 && !q.Serializable &&
		q.MinModRevision == 0 && q.MaxModRevision == 0 && q.MinCreateRevision == 0 && q.MaxCreateRevision == 0
}

// read answers a read of a key upstream that the proxy owns, or can own from now on; nil if it must go upstream.
func (o *owner) read(ctx context.Context, q *etcdserverpb.RangeRequest) *etcdserverpb.RangeResponse {
	newest := o.newest.seen() // before the lease is looked at: up to there nobody else can have written
	o.mu.Lock()
	now := o.clock.Now()
	if !o.term.lasts(now) {
		o.mu.Unlock()
		return nil
	}
	if e := o.owned.keys[string(q.Key)]; e != nil {
		defer o.mu.Unlock()
		if e.answer == nil || e.writes > 0 {
			return nil
		}
		o.owned.recent.MoveToFront(e.place)
		return view(q, e.answer, newest)
	}
	if left, ok := o.left[string(q.Key)]; ok && now.Sub(left) < ownBackoff || len(o.back) > titlesMax {
		o.mu.Unlock()
		return nil
	}
	delete(o.left, string(q.Key))
	e, t := o.owned.reserve(string(q.Key)), o.term
	o.mu.Unlock()
	return o.acquire(ctx, q, e, t)
}

// view is the answer to a read of what is kept, as of a revision up to which the key has not changed since.
func view(q *etcdserverpb.RangeRequest, kept *etcdserverpb.RangeResponse, newest int64) *etcdserverpb.RangeResponse {
	out := &etcdserverpb.RangeResponse{Header: proto.CloneOf(kept.Header), Count: kept.Count}
	out.Header.Revision = max(out.Header.Revision, newest)
	for _, kv := range kept.Kvs {
		switch {
		case q.CountOnly:
		case q.KeysOnly:
			out.Kvs = append(out.Kvs, &mvccpb.KeyValue{Key: kv.Key, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision,
				Version: kv.Version})
		default:
			out.Kvs = append(out.Kvs, proto.CloneOf(kv))
		}
	}
	return out
}

// acquire reads a key and writes its title, if nobody has it and the key does not end with a lease.
func (o *owner) acquire(ctx context.Context, q *etcdserverpb.RangeRequest, e *owned, t *term) *etcdserverpb.RangeResponse {
	defer close(e.acquired)
	name := o.title(q.Key)
	read := getOp(&etcdserverpb.RangeRequest{Key: q.Key})
	r, err := etcdserverpb.NewKVClient(o.up).Txn(passed(ctx), &etcdserverpb.TxnRequest{
		Compare: []*etcdserverpb.Compare{createdAt(name, nil, 0),
			{Key: q.Key, Target: etcdserverpb.Compare_LEASE, Result: etcdserverpb.Compare_EQUAL, TargetUnion: &etcdserverpb.Compare_Lease{}}},
		Success: []*etcdserverpb.RequestOp{read, {Request: &etcdserverpb.RequestOp_RequestPut{
			RequestPut: &etcdserverpb.PutRequest{Key: name, Lease: t.lease}}}},
		Failure: []*etcdserverpb.RequestOp{read, getOp(&etcdserverpb.RangeRequest{Key: name})}})
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.leave(e)
		return nil
	}
	o.newest.saw(r.Header)
	answer := r.Responses[0].GetResponseRange()
	answer.Header = r.Header
	out := view(q, answer, 0)
	switch {
	case !r.Succeeded:
		o.owned.drop(e)
		for _, kv := range r.Responses[1].GetResponseRange().GetKvs() {
			if kv.Lease == t.lease { // that of an attempt which had no answer
				o.giveUp(title{string(name), kv.CreateRevision})
			}
		}
	case o.term != t:
	case !o.owned.has(e) || proto.Size(answer) > cacheEntryMax:
		o.leave(e)
		o.giveUp(title{string(name), r.Header.Revision})
	default:
		e.revision = r.Header.Revision
		o.owned.keep(e, answer)
		for s := o.owned.surplus(); s != nil; s = o.owned.surplus() {
			o.forsake(s)
		}
	}
	return out
}

// leave drops a key and does not acquire it again at once. REQUIRES: o.mu is held.
func (o *owner) leave(e *owned) {
	o.owned.drop(e)
	now := o.clock.Now()
	if len(o.left) >= titlesMax {
		for key, at := range o.left {
			if now.Sub(at) >= ownBackoff {
				delete(o.left, key)
			}
		}
	}
	if len(o.left) < titlesMax {
		o.left[e.key] = now
	}
}

// forsake drops a key and gives its title back. REQUIRES: o.mu is held, the key is acquired.
func (o *owner) forsake(e *owned) {
	o.owned.drop(e)
	o.giveUp(title{string(o.title([]byte(e.key))), e.revision})
}

// giveUp has a title given back. REQUIRES: o.mu is held.
func (o *owner) giveUp(t title) {
	o.back = append(o.back, t)
	poke(o.wake)
}

// changed takes an event of a title.
func (o *owner) changed(event *mvccpb.Event) {
	name := string(event.Kv.Key)
	key := o.keyOf(name)
	o.mu.Lock()
	defer o.mu.Unlock()
	e := o.owned.keys[key]
	switch {
	case event.Type == mvccpb.Event_DELETE:
		for w := range o.waiting[name] {
			poke(w)
		}
		if e != nil && (e.answer == nil || e.revision < event.Kv.ModRevision) {
			o.leave(e) // while it is being acquired it is not known which title this was
		}
	case string(event.Kv.Value) == revokeValue && o.term != nil && event.Kv.Lease == o.term.lease:
		if e != nil {
			o.leave(e)
		}
		o.giveUp(title{name, event.Kv.CreateRevision})
	}
}
