package watch

import "github.com/ashlar-kv/ashlar/internal/mvcc"

// want is what a watcher's Spec asks for, in bits: there may be a million watchers.
type want uint8

const (
	wantPrev want = 1 << iota
	wantNotify
	wantFragment
	refusePut
	refuseDelete
)

// state is where a watcher stands.
type state uint8

const (
	inStep    state = iota // in the hub's index
	behind                 // reads history
	compacted              // canceled by a compaction; keeps its id until the client cancels it
	gone
)

// watcher is one watcher of a stream.
//
// What it is and wants never changes. next is the first revision it may still be given; of one in step that is where
// it came into step, and nothing advances it. A watcher in step is in the hub's index, which owns the links, next
// and staged; one behind is in its stream's, and they belong to the goroutine in Stream.Next. Changes of state happen
// under the locks of hub and stream. pending, state, queued and told belong to the stream's lock; so does writing next.
type watcher struct {
	stream *Stream
	id     int64
	key    string
	span   *span // nil for a single key

	before, after *watcher // of the same key or span
	next          int64
	pending       []*encoded // in order, whole revisions
	staged        int32      // place in a staging, counted from 1

	want   want
	state  state
	queued place
	told   bool // got something since the last NotifyProgress
}

// place is the queue of its stream in which a watcher stands.
type place uint8

const (
	nowhere place = iota
	inReady
	inChunk
)

// wants tells whether a change is for w, its key aside.
func (w *watcher) wants(kind mvcc.EventKind, rev int64) bool {
	if rev < w.next {
		return false
	}
	if kind == mvcc.EventDelete {
		return w.want&refuseDelete == 0
	}
	return w.want&refusePut == 0
}

// entryOverhead is what an entry of a pending list costs beside the shared bytes.
const entryOverhead = 16

// cost is what an event counts against its stream's bound.
func (w *watcher) cost(e *encoded) int { return entryOverhead + len(e.of(w.want&wantPrev != 0)) }

// stage is what one watcher gets from a number of revisions.
type stage struct {
	w      *watcher
	events []*encoded
	cut    int64 // when not 0, the revision from which the watcher must read history
}

// staging collects events for watchers, to hand each what it gets at once and whole.
type staging struct{ list []stage }

// of returns the stage of w.
func (g *staging) of(w *watcher) *stage {
	if w.staged > 0 {
		return &g.list[w.staged-1]
	}
	n := len(g.list)
	if n < cap(g.list) {
		g.list = g.list[:n+1] // with the memory of an earlier use
	} else {
		g.list = append(g.list, stage{})
	}
	g.list[n].w, g.list[n].cut = w, 0
	w.staged = int32(n + 1)
	return &g.list[n]
}

// reset empties g and keeps its memory.
func (g *staging) reset() {
	for i := range g.list {
		s := &g.list[i]
		s.w.staged, s.w = 0, nil
		clear(s.events)
		s.events = s.events[:0]
	}
	g.list = g.list[:0]
}
