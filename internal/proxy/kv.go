package proxy

import (
	"context"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// kv serves the methods of KV.
type kv struct {
	up    grpc.ClientConnInterface
	space namespace
	cache *cache
	order *order // knows what this proxy has answered
	// ordered has serializable reads never go back behind that.
	ordered bool
	owner   *owner // nil: linearizable reads always go upstream
}

func (k *kv) handlers() handlers {
	return handlers{
		etcdserverpb.KV_Range_FullMethodName:       unary(k.read),
		etcdserverpb.KV_RangeStream_FullMethodName: streamed(k.up, etcdserverpb.KV_RangeStream_FullMethodName, k.space.rangeOf, k.space.streamed),
		etcdserverpb.KV_Put_FullMethodName: write(k, etcdserverpb.KV_Put_FullMethodName, k.space.put, k.space.wrote,
			func(c *cache, q *etcdserverpb.PutRequest) { c.forget(q.Key, nil) }, k.put),
		etcdserverpb.KV_DeleteRange_FullMethodName: write(k, etcdserverpb.KV_DeleteRange_FullMethodName, k.space.deletion, k.space.deleted,
			func(c *cache, q *etcdserverpb.DeleteRangeRequest) { c.forget(q.Key, q.RangeEnd) }, k.delete),
		etcdserverpb.KV_Txn_FullMethodName: write(k, etcdserverpb.KV_Txn_FullMethodName, k.space.txn, k.space.done, forgetTxn, k.txn),
		etcdserverpb.KV_Compact_FullMethodName: write(k, etcdserverpb.KV_Compact_FullMethodName, func(*etcdserverpb.CompactionRequest) {},
			func(*etcdserverpb.CompactionResponse) {}, func(c *cache, _ *etcdserverpb.CompactionRequest) { c.clear() }, nil),
	}
}

// read answers a Range: from the cache, if it is serializable.
func (k *kv) read(ctx context.Context, q *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	k.space.rangeOf(q)
	who := identityOf(ctx)
	if k.owner != nil && k.owner.answers(who, q) {
		if r := k.owner.read(ctx, q); r != nil {
			k.space.ranged(r)
			k.order.saw(r.GetHeader())
			return r, nil
		}
	}
	if !q.Serializable {
		return k.ask(ctx, q)
	}
	least := int64(0)
	if k.ordered {
		least = k.order.seen()
	}
	r, at := k.cache.get(who, q)
	if r != nil && r.GetHeader().GetRevision() >= least {
		return r, nil
	}
	r, err := k.ask(ctx, q)
	if err == nil && r.GetHeader().GetRevision() < least { // from a member that lags: ask all of them
		q.Serializable = false
		return k.ask(ctx, q)
	}
	if err == nil {
		k.cache.add(who, q, r, at)
	}
	return r, err
}

// ask reads upstream.
func (k *kv) ask(ctx context.Context, q *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	r := new(etcdserverpb.RangeResponse)
	if err := k.up.Invoke(passed(ctx), etcdserverpb.KV_Range_FullMethodName, q, r); err != nil {
		return nil, err
	}
	k.space.ranged(r)
	k.order.saw(r.GetHeader())
	return r, nil
}

// write makes a handler of a method that changes keys. What it touches is forgotten when the answer is there, and also when
// there is none: it may have been done. Where keys have owners, owned carries it out, if it is given.
func write[Q, R any, H interface {
	*R
	GetHeader() *etcdserverpb.ResponseHeader
}](k *kv, method string, there func(*Q), back func(*R), forget func(*cache, *Q), owned func(context.Context, *Q) (*R, error)) handler {
	return unary(func(ctx context.Context, q *Q) (*R, error) {
		there(q)
		defer forget(k.cache, q)
		r := new(R)
		var err error
		if k.owner != nil && owned != nil {
			r, err = owned(ctx, q)
		} else {
			err = k.up.Invoke(passed(ctx), method, q, r)
		}
		if err != nil {
			return nil, err
		}
		k.order.saw(H(r).GetHeader())
		back(r)
		return r, nil
	})
}

// put carries a put out that needs the consent of the key's owner.
func (k *kv) put(ctx context.Context, q *etcdserverpb.PutRequest) (*etcdserverpb.PutResponse, error) {
	op := &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestPut{RequestPut: q}}
	done, err := k.owner.write(ctx, op, spansOf(nil, op))
	if err != nil {
		return nil, err
	}
	r := done.Responses[0].GetResponsePut()
	r.Header = done.Header
	return r, nil
}

// delete carries a deletion out that needs the consent of the keys' owners.
func (k *kv) delete(ctx context.Context, q *etcdserverpb.DeleteRangeRequest) (*etcdserverpb.DeleteRangeResponse, error) {
	op := &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestDeleteRange{RequestDeleteRange: q}}
	done, err := k.owner.write(ctx, op, spansOf(nil, op))
	if err != nil {
		return nil, err
	}
	r := done.Responses[0].GetResponseDeleteRange()
	r.Header = done.Header
	return r, nil
}

// txn carries a transaction out that may need the consent of keys' owners.
func (k *kv) txn(ctx context.Context, q *etcdserverpb.TxnRequest) (*etcdserverpb.TxnResponse, error) {
	op := &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestTxn{RequestTxn: q}}
	spans := spansOf(nil, op)
	if len(spans) == 0 { // it only reads
		r := new(etcdserverpb.TxnResponse)
		return r, k.up.Invoke(passed(ctx), etcdserverpb.KV_Txn_FullMethodName, q, r)
	}
	done, err := k.owner.write(ctx, op, spans)
	if err != nil {
		return nil, err
	}
	r := done.Responses[0].GetResponseTxn()
	r.Header = done.Header
	return r, nil
}

// forgetTxn forgets what the writes of a transaction may touch, whichever branch was taken.
func forgetTxn(c *cache, q *etcdserverpb.TxnRequest) {
	for _, ops := range [][]*etcdserverpb.RequestOp{q.Success, q.Failure} {
		for _, op := range ops {
			if p := op.GetRequestPut(); p != nil {
				c.forget(p.Key, nil)
			}
			if d := op.GetRequestDeleteRange(); d != nil {
				c.forget(d.Key, d.RangeEnd)
			}
			if t := op.GetRequestTxn(); t != nil {
				forgetTxn(c, t)
			}
		}
	}
}
