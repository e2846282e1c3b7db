package consensus

import (
	"bytes"

	"go.etcd.io/raft/v3"
)

// ReadBatch is a set of linearizable reads that share one ReadIndex.
type ReadBatch struct {
	confirmed chan struct{} // closed once, before done or with it
	done      chan struct{} // closed once, after err is set
	err       error
	index     uint64
	ticks     int // since the raft loop first saw it unconfirmed
}

func newReadBatch() *ReadBatch {
	return &ReadBatch{confirmed: make(chan struct{}), done: make(chan struct{})}
}

// Done is closed when the batch is decided.
func (b *ReadBatch) Done() <-chan struct{} { return b.done }

// Confirmed is closed when the leader has answered, which may be long before what it answered is applied here, or when the
// batch has failed. A member that was the leader in some term before it joined the batch, and is the leader in that same term
// now that Confirmed is closed, has been confirmed as such by a quorum in between.
func (b *ReadBatch) Confirmed() <-chan struct{} { return b.confirmed }

// Failed returns, once Confirmed is closed, the error when the batch has failed by now, and nil otherwise.
func (b *ReadBatch) Failed() error {
	select {
	case <-b.done:
		return b.err
	default:
		return nil
	}
}

// Err says, once Done is closed, how it was decided: nil lets the reads go on.
func (b *ReadBatch) Err() error { return b.err }

func (b *ReadBatch) finish(err error) {
	b.err = err
	close(b.done)
	b.confirm()
}

// confirm is called by the raft loop, or when it has ended.
func (b *ReadBatch) confirm() {
	select {
	case <-b.confirmed:
	default:
		close(b.confirmed)
	}
}

// reads batches linearizable reads: one batch is in flight while the next one
// gathers in the inbox. Its fields belong to the raft loop.
type reads struct {
	prefix       uint64
	counter      uint64
	timeoutTicks int
	measures     *Measures

	inflight *ReadBatch
	context  []byte
	age      int          // ticks since the ReadIndex in flight was sent
	waiting  []*ReadBatch // confirmed, their index not applied yet
}

// readRetryTicks: raft forgets a ReadIndex silently when there is no leader or it
// loses a message; after this many ticks it is sent again under a new context.
const readRetryTicks = 5

// join returns the batch that gathers now.
func (r *reads) join(in *inbox) *ReadBatch {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.gathering == nil {
		in.gathering = newReadBatch()
	}
	return in.gathering
}

// maybeSend starts a ReadIndex for the reads that gathered, if none is in flight.
func (r *reads) maybeSend(in *inbox, rn *raft.RawNode) {
	if r.inflight != nil {
		return
	}
	in.mu.Lock()
	r.inflight, in.gathering = in.gathering, nil
	in.mu.Unlock()
	if r.inflight != nil {
		r.send(rn)
	}
}

func (r *reads) send(rn *raft.RawNode) {
	r.counter++
	r.age = 0
	r.context = readContext(r.prefix, r.counter)
	rn.ReadIndex(r.context)
}

// tick ends batches that waited too long, and sends the ReadIndex in flight again
// when its answer is overdue and may has it so.
func (r *reads) tick(in *inbox, rn *raft.RawNode, may bool) {
	in.mu.Lock()
	if b := in.gathering; b != nil {
		if b.ticks++; b.ticks > r.timeoutTicks {
			in.gathering = nil
			r.measures.ReadsFailed.Inc()
			b.finish(ErrReadTimeout)
		}
	}
	in.mu.Unlock()
	if r.inflight == nil {
		return
	}
	if r.inflight.ticks++; r.inflight.ticks > r.timeoutTicks {
		r.failInflight(ErrReadTimeout)
		return
	}
	if r.age++; r.age >= readRetryTicks && may {
		r.measures.ReadsRepeated.Inc()
		r.send(rn)
	}
}

// confirm takes raft's answers. Answers to an earlier context are stale.
func (r *reads) confirm(states []raft.ReadState) {
	for _, s := range states {
		if r.inflight == nil || !bytes.Equal(s.RequestCtx, r.context) {
			continue
		}
		r.inflight.index = s.Index
		r.inflight.confirm()
		r.waiting = append(r.waiting, r.inflight)
		r.inflight = nil
	}
}

// release lets go on what waits for an index that is applied now.
func (r *reads) release(applied uint64) {
	kept := r.waiting[:0]
	for _, b := range r.waiting {
		if b.index <= applied {
			b.finish(nil)
		} else {
			kept = append(kept, b)
		}
	}
	clear(r.waiting[len(kept):])
	r.waiting = kept
}

// failInflight ends the reads in flight, whose question a leader may have lost.
func (r *reads) failInflight(err error) {
	if r.inflight != nil {
		r.measures.ReadsFailed.Inc()
		r.inflight.finish(err)
		r.inflight = nil
	}
}

// failAll ends every read. The raft loop must have ended.
func (r *reads) failAll(in *inbox, err error) {
	r.failInflight(err)
	for _, b := range r.waiting {
		b.finish(err)
	}
	r.waiting = nil
	in.mu.Lock()
	b := in.gathering
	in.gathering = nil
	in.mu.Unlock()
	if b != nil {
		b.finish(err)
	}
}
