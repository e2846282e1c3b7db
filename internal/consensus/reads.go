package consensus

import (
	"bytes"
	"sync"
	"sync/atomic"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// ReadBatch is a set of linearizable reads that share one ReadIndex.
type ReadBatch struct {
	confirmed chan struct{} // closed once, before done or with it
	done      chan struct{} // closed once, after err is set
	err       error
	index     uint64
	ticks     int          // since the raft loop first saw it unconfirmed
	asked     []question   // of other members, that are answered with it
	readers   atomic.Int64 // who wait in ReadBarrier, or have not gone on yet

	mu          sync.Mutex
	early, late []Waker // to be woken when confirmed, and done, is closed
}

// Waker is told of something. Wake may be called from any goroutine, the raft loop too, and must not block.
type Waker interface{ Wake() }

// Tell wakes w once Done, or when early is set Confirmed, is closed: at once if it is by now. It is told once for several calls that
// follow each other. For one that waits for many things this is cheaper than a goroutine for each.
func (b *ReadBatch) Tell(w Waker, early bool) {
	b.mu.Lock()
	wakers, end := &b.late, b.done
	if early {
		wakers, end = &b.early, b.confirmed
	}
	ended := false
	select {
	case <-end:
		ended = true
	default:
		if n := len(*wakers); n == 0 || (*wakers)[n-1] != w {
			*wakers = append(*wakers, w)
		}
	}
	b.mu.Unlock()
	if ended {
		w.Wake()
	}
}

// end closes a channel and wakes whoever is to be told of that.
func (b *ReadBatch) end(c chan struct{}, wakers *[]Waker) {
	b.mu.Lock()
	close(c)
	told := *wakers
	*wakers = nil
	b.mu.Unlock()
	for _, w := range told {
		w.Wake()
	}
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
	b.end(b.done, &b.late)
	b.confirm()
}

// confirm is called by the raft loop, or when it has ended.
func (b *ReadBatch) confirm() {
	select {
	case <-b.confirmed:
	default:
		b.end(b.confirmed, &b.early)
	}
}

// reads batches linearizable reads: one batch is in flight while the next one
// gathers in the inbox. Its fields belong to the raft loop.
type reads struct {
	prefix       uint64
	counter      uint64
	timeoutTicks int
	measures     *Measures
	crowd        *crowd

	asked    []question // of other members since the ReadIndex in flight was sent
	released *ReadBatch // the last one whose readers may go on
	inflight *ReadBatch
	context  []byte
	ended    atomic.Bool  // none goes on any more
	behind   atomic.Bool  // what is due waits for the readers of released
	age      int          // ticks since the ReadIndex in flight was sent
	waiting  []*ReadBatch // confirmed, their index not applied yet
}

// question is the ReadIndex of another member that asks this one, the leader.
type question struct {
	from    uint64
	entries []*raftpb.Entry // holds the context by which the member knows the answer
}

// questionsMax bounds the questions of other members that wait; whoever gets no answer asks again. A member has one under way,
// and perhaps some that it has given up.
const questionsMax = 1024

// ask takes another member's question, to be answered with the next batch: one round of heartbeats confirms all of them. REQUIRES:
// this member leads.
func (r *reads) ask(m *raftpb.Message) {
	if len(r.asked) < questionsMax {
		r.asked = append(r.asked, question{m.GetFrom(), m.GetEntries()})
	}
}

// readRetryTicks: raft forgets a ReadIndex silently when there is no leader or it
// loses a message; after this many ticks it is sent again under a new context.
const readRetryTicks = 5

// join returns the batch that gathers now, with so many more readers, and whether it is a new one, of which the raft loop has to be told.
func (r *reads) join(in *inbox, readers int64) (b *ReadBatch, fresh bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if fresh = in.gathering == nil; fresh {
		in.gathering = newReadBatch()
	}
	in.gathering.readers.Add(readers)
	return in.gathering, fresh
}

// due says whether a ReadIndex should be sent: something waits for one, none is in flight, and the readers of the batch before
// have gone on. When there are more of them than processors, more reads come meanwhile; the fewer batches, the fewer writes to
// clients.
func (r *reads) due(in *inbox) bool {
	if r.inflight != nil || !r.pending(in) {
		return false
	}
	if r.released == nil || r.released.readers.Load() == 0 {
		return true
	}
	r.behind.Store(true)
	return r.released.readers.Load() == 0 // the last one may have gone on before it could see that
}

// pending says whether anybody waits for a ReadIndex that was not sent yet.
func (r *reads) pending(in *inbox) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.gathering != nil || len(r.asked) > 0
}

// start sends a ReadIndex for the reads that gathered and what others have asked. REQUIRES: due.
func (r *reads) start(in *inbox, rn *raft.RawNode) {
	in.mu.Lock()
	r.inflight, in.gathering = in.gathering, nil
	in.mu.Unlock()
	if r.inflight == nil {
		r.inflight = newReadBatch()
	}
	r.inflight.asked, r.asked = r.asked, nil
	r.crowd.note(int(r.inflight.readers.Load()) + len(r.inflight.asked))
	r.send(rn)
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

// confirm takes raft's answers. Answers to an earlier context are stale. It returns the answers to other members, without a sender
// and its term.
func (r *reads) confirm(states []raft.ReadState) (answers []*raftpb.Message) {
	for _, s := range states {
		if r.inflight == nil || !bytes.Equal(s.RequestCtx, r.context) {
			continue
		}
		b := r.inflight
		b.index = s.Index
		b.confirm()
		for _, q := range b.asked {
			answers = append(answers, &raftpb.Message{
				Type: raftpb.MsgReadIndexResp.Enum(), To: proto.Uint64(q.from), Index: proto.Uint64(s.Index), Entries: q.entries,
			})
		}
		b.asked = nil
		r.waiting = append(r.waiting, b)
		r.inflight = nil
	}
	return answers
}

// release lets go on what waits for an index that is applied now.
func (r *reads) release(applied uint64) {
	kept := r.waiting[:0]
	for _, b := range r.waiting {
		if b.index <= applied {
			b.finish(nil)
			r.released = b
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

// failAll ends every read. The raft loop must call it, or have ended.
func (r *reads) failAll(in *inbox, err error) {
	r.failInflight(err)
	for _, b := range r.waiting {
		b.finish(err)
	}
	r.waiting = nil
	r.failGathering(in, err)
}

// failGathering ends the reads that gather.
func (r *reads) failGathering(in *inbox, err error) {
	in.mu.Lock()
	b := in.gathering
	in.gathering = nil
	in.mu.Unlock()
	if b != nil {
		b.finish(err)
	}
}
