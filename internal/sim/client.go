package sim

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/consensus"
	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/member"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// request is what one client waits for. A write and a change of the membership have pending, a read has read.
type request struct {
	change  bool
	h       *host
	pending *member.Pending
	write   *write
	read    *consensus.ReadBatch
	floor   int64 // the newest revision acknowledged to anybody when a read began
	looks   int   // for the answer to a write
}

// looksMax is how often a client looks for the answer to a write at most: fewer times than there are rounds in which a world settles.
const looksMax = 2_000

// requestsMax bounds how many clients wait at a time.
const requestsMax = 40

// keys is how many keys clients use: few, so that they meet.
const keys = 12

func key(i int) []byte { return fmt.Appendf(nil, "k%02d", i) }

func (w *World) stepRequest() {
	h := w.pick(running)
	if h == nil || len(w.clients) >= requestsMax {
		return
	}
	if w.rng.Intn(3) == 0 {
		if h.readable() && h.m.Trusted() == nil { // or it refuses to read
			w.clients = append(w.clients, &request{h: h, read: h.m.Node().BeginRead(), floor: w.history.acknowledged})
		}
		return
	}
	w.ask(h, w.randomWrite())
}

// ask has a client ask for a write.
func (w *World) ask(h *host, wr *write) {
	raw, err := proto.Marshal(wr.message)
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := h.m.Begin(wr.command, raw)
	if errors.Is(err, consensus.ErrTooManyRequests) {
		return
	}
	if err != nil {
		h.failedTo("take a request", err)
		return
	}
	w.clients = append(w.clients, &request{h: h, pending: p, write: wr})
}

// readable says whether the member may answer reads yet.
func (h *host) readable() bool {
	select {
	case <-h.m.Node().Replayed():
		return true
	default:
		return false
	}
}

// write is a change that a client asked for. tag is in every value it writes, so
// that the entry in the log can be told to be this one.
type write struct {
	command apply.Command
	message proto.Message
}

func (w *World) randomWrite() *write {
	k := key(w.rng.Intn(keys))
	value := fmt.Appendf(nil, "v%d", w.rng.Int63())
	if w.rng.Intn(16) == 0 {
		value = append(value, make([]byte, 4<<10)...) // the state keeps it apart from its key
	}
	put := &etcdserverpb.PutRequest{Key: k, Value: value, Lease: w.randomLease()}
	switch x := w.rng.Intn(22); {
	case x < 11:
		return &write{apply.CommandPut, put}
	case x < 14:
		del := &etcdserverpb.DeleteRangeRequest{Key: k}
		if w.rng.Intn(3) == 0 {
			del.RangeEnd = key(w.rng.Intn(keys))
		}
		return &write{apply.CommandDeleteRange, del}
	case x < 19:
		// Two keys that are always written together, if the first one still is as
		// it was seen at some revision.
		return &write{apply.CommandTxn, &etcdserverpb.TxnRequest{
			Compare: []*etcdserverpb.Compare{{
				Key: k, Target: etcdserverpb.Compare_MOD, Result: etcdserverpb.Compare_LESS,
				TargetUnion: &etcdserverpb.Compare_ModRevision{ModRevision: 1 + w.rng.Int63n(w.history.acknowledged+2)},
			}},
			Success: []*etcdserverpb.RequestOp{putOp([]byte("pair/a"), value, put.Lease), putOp([]byte("pair/b"), value, 0)},
			Failure: []*etcdserverpb.RequestOp{putOp(k, value, 0)},
		}}
	case x < 21:
		return w.randomLeaseWrite()
	default:
		return &write{apply.CommandCompaction, &etcdserverpb.CompactionRequest{
			Revision: max(1, w.history.acknowledged-w.rng.Int63n(40)),
		}}
	}
}

func putOp(key, value []byte, lease int64) *etcdserverpb.RequestOp {
	return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestPut{
		RequestPut: &etcdserverpb.PutRequest{Key: key, Value: value, Lease: lease},
	}}
}

// stepAnswers takes the answers that are there.
func (w *World) stepAnswers() {
	kept := w.clients[:0]
	for _, r := range w.clients {
		if !w.answer(r) {
			kept = append(kept, r)
		}
	}
	clear(w.clients[len(kept):])
	w.clients = kept
	w.renewals = slices.DeleteFunc(w.renewals, w.renewed)
}

// answer reports whether the request is over.
func (w *World) answer(r *request) bool {
	if r.pending != nil {
		res, ok := r.pending.Poll()
		switch {
		case ok && r.h.m.Trusted() != nil: // what it says does not count, and is not said
		case ok && r.change:
			w.changed(r, res)
		case ok:
			w.written(r, res)
		}
		// A proposal may have got lost with a leader: its client gives up.
		r.looks++
		return ok || w.rng.Intn(400) == 0 || r.looks > looksMax
	}
	select {
	case <-r.read.Done():
	default:
		return false
	}
	if r.read.Err() == nil && r.h.m.Trusted() == nil {
		w.readAll(r)
	}
	return true
}

func (w *World) written(r *request, res apply.Result) {
	switch {
	case res.Err == nil:
		w.history.acknowledge(w, res)
	case errors.Is(res.Err, mvcc.ErrCompacted), errors.Is(res.Err, mvcc.ErrFutureRevision),
		errors.Is(res.Err, lease.ErrNotFound),
		errors.Is(res.Err, consensus.ErrDropped), errors.Is(res.Err, consensus.ErrTooManyRequests),
		errors.Is(res.Err, member.ErrTimeout):
	case errors.Is(res.Err, lease.ErrExists): // the network has repeated the request, and the first one came in a snapshot
	case errors.Is(res.Err, apply.ErrCorrupt) && w.faults.on:
	default:
		r.h.failedTo("write", res.Err)
	}
}

// readAll reads everything at the newest revision and compares it with the model.
func (w *World) readAll(r *request) {
	v, err := r.h.m.View(0)
	if err != nil {
		r.h.failedTo("open a view", err)
		return
	}
	defer v.Close()
	rev := v.Current()
	if rev < r.floor {
		w.fail("member %d: a linearizable read saw revision %d, but %d was acknowledged before it began",
			r.h.n, rev, r.floor)
	}
	if r.h.fault.generation == 0 { // or nobody knows yet
		w.compareView(r.h, v, rev)
	}
}

// forget drops the clients of a member that is gone: they never learn what became
// of their requests.
func (w *World) forget(h *host) {
	w.renewals = slices.DeleteFunc(w.renewals, func(x renewal) bool { return x.h == h })
	w.lose(h)
	kept := w.clients[:0]
	for _, r := range w.clients {
		if r.h != h {
			kept = append(kept, r)
		}
	}
	w.clients = kept
}
