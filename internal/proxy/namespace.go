package proxy

import (
	"bytes"
	"slices"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/lockpb"
)

// namespace is what all keys of clients begin with upstream. The empty one changes nothing.
type namespace string

// key returns the key upstream. An empty key stays empty: upstream refuses it.
func (n namespace) key(k []byte) []byte {
	if n == "" || len(k) == 0 {
		return k
	}
	return append([]byte(n), k...)
}

// end returns the end of a range upstream. That of all keys from one on is the end of the namespace.
func (n namespace) end(e []byte) []byte {
	switch {
	case n == "" || len(e) == 0:
		return e
	case len(e) == 1 && e[0] == 0:
		return n.after()
	}
	return append([]byte(n), e...)
}

// after returns the first key behind the namespace, or the end of all keys.
func (n namespace) after() []byte {
	out := []byte(n)
	for i := len(out) - 1; i >= 0; i-- {
		if out[i] < 0xff {
			out[i]++
			return out[:i+1]
		}
	}
	return []byte{0}
}

// strip makes a pair that came from upstream one of the client's.
func (n namespace) strip(kv *mvccpb.KeyValue) {
	if n != "" && kv != nil {
		kv.Key = bytes.TrimPrefix(kv.Key, []byte(n))
	}
}

func (n namespace) stripAll(kvs []*mvccpb.KeyValue) {
	for _, kv := range kvs {
		n.strip(kv)
	}
}

// watch returns a request upstream for a client's.
func (n namespace) watch(r *etcdserverpb.WatchCreateRequest) *etcdserverpb.WatchCreateRequest {
	r = proto.CloneOf(r)
	if n != "" && len(r.Key) == 0 { // the first key there may be, as at a member
		r.Key = []byte{0}
	}
	r.Key, r.RangeEnd = n.key(r.Key), n.end(r.RangeEnd)
	return r
}

func (n namespace) rangeOf(r *etcdserverpb.RangeRequest) {
	if r != nil {
		r.Key, r.RangeEnd = n.key(r.Key), n.end(r.RangeEnd)
	}
}

func (n namespace) deletion(r *etcdserverpb.DeleteRangeRequest) {
	if r != nil {
		r.Key, r.RangeEnd = n.key(r.Key), n.end(r.RangeEnd)
	}
}

func (n namespace) put(r *etcdserverpb.PutRequest) {
	if r != nil {
		r.Key = n.key(r.Key)
	}
}

// txn changes the keys of a transaction and of those within it.
func (n namespace) txn(r *etcdserverpb.TxnRequest) {
	if n == "" || r == nil {
		return
	}
	for _, c := range r.Compare {
		c.Key, c.RangeEnd = n.key(c.Key), n.end(c.RangeEnd)
	}
	for _, op := range slices.Concat(r.Success, r.Failure) {
		n.rangeOf(op.GetRequestRange())
		n.put(op.GetRequestPut())
		n.deletion(op.GetRequestDeleteRange())
		n.txn(op.GetRequestTxn())
	}
}

func (n namespace) ranged(r *etcdserverpb.RangeResponse)         { n.stripAll(r.GetKvs()) }
func (n namespace) wrote(r *etcdserverpb.PutResponse)            { n.strip(r.GetPrevKv()) }
func (n namespace) deleted(r *etcdserverpb.DeleteRangeResponse)  { n.stripAll(r.GetPrevKvs()) }
func (n namespace) streamed(r *etcdserverpb.RangeStreamResponse) { n.ranged(r.GetRangeResponse()) }

func (n namespace) done(r *etcdserverpb.TxnResponse) {
	if n == "" {
		return
	}
	for _, op := range r.GetResponses() {
		n.ranged(op.GetResponseRange())
		n.wrote(op.GetResponsePut())
		n.deleted(op.GetResponseDeleteRange())
		n.done(op.GetResponseTxn())
	}
}

// leased leaves the keys of the namespace among those of a lease.
func (n namespace) leased(r *etcdserverpb.LeaseTimeToLiveResponse) {
	if n == "" {
		return
	}
	var own [][]byte
	for _, k := range r.Keys {
		if k, ok := bytes.CutPrefix(k, []byte(n)); ok {
			own = append(own, k)
		}
	}
	r.Keys = own
}

// name returns the name upstream of a lock or an election, which may be empty.
func (n namespace) name(name []byte) []byte { return append([]byte(n), name...) }

func (n namespace) leader(l *lockpb.LeaderKey) {
	if l != nil {
		l.Name, l.Key = n.name(l.Name), n.key(l.Key)
	}
}

func (n namespace) won(l *lockpb.LeaderKey) {
	if l != nil {
		l.Name, l.Key = bytes.TrimPrefix(l.Name, []byte(n)), bytes.TrimPrefix(l.Key, []byte(n))
	}
}
