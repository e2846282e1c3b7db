package storage

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

const (
	// chainedSublevels is how many sublevels the newest level may have for tables of data to end where the history begins. Where keys are put in order
	// the data of a flush touches that of the one before at its ends alone. Pebble counts such a chain as one sublevel more for each flush, of which each is a place
	// for a walk to look into, and compacts by how many tables lie on one key. A table that goes from the end of the data into the history lies
	// on all of the chain and makes both numbers the same.
	chainedSublevels = 8
	// movesMax is how many tables may wait to be moved down; what comes then stays where it is, and is merged.
	movesMax = 256
)

// historyMover moves the records of history of each flush down as they are. They come in order of revision: those of a flush lie behind all that were
// flushed before, so there is nothing to merge them with; together with the data of their flush they would be written again by each compaction of it.
type historyMover struct {
	db     atomic.Pointer[pebble.DB] // nil until it is open
	ctx    context.Context           // ends all moves
	cancel context.CancelFunc
	wake   chan struct{}
	ended  chan struct{} // closed when no move goes on any more

	mu     sync.Mutex     // guards what follows; no lock of Pebble is taken while it is held
	behind []byte         // the key behind all history that was flushed since the database was opened; nil before
	moves  []historyTable // in order
}

// historyTable is a flushed table of nothing but new records of history.
type historyTable struct{ first, last []byte }

func newHistoryMover() *historyMover {
	ctx, cancel := context.WithCancel(context.Background())
	return &historyMover{ctx: ctx, cancel: cancel, wake: make(chan struct{}, 1), ended: make(chan struct{})}
}

// begin is called when the database is open and may be written to.
func (h *historyMover) begin(db *pebble.DB, f *failure) {
	h.db.Store(db)
	go h.run(f)
}

// end is called before the database is closed. It returns when no move goes on, or the database has failed: then nobody may be left to end one.
func (h *historyMover) end(f *failure) {
	if h == nil || h.db.Load() == nil {
		return
	}
	h.cancel()
	select {
	case <-h.ended:
	case <-f.done:
	}
}

// tableEnds is a pebble.SpanPolicyFunc: tables end where the history begins, where its new records begin, where it ends, and where large values begin and end,
// which come in the order of their keys as well.
func (h *historyMover) tableEnds(key []byte) (_ pebble.SpanPolicy, end []byte, _ error) {
	history, historyEnd := SpaceBounds(SpaceHistory)
	large, largeEnd := SpaceBounds(SpaceLarge)
	h.mu.Lock()
	behind := h.behind
	h.mu.Unlock()
	ends := [][]byte{history, behind, historyEnd, large, largeEnd}
	if CompareKeys(key, history) < 0 && h.chained() {
		ends = ends[2:]
	}
	for _, end := range ends {
		if end != nil && CompareKeys(key, end) < 0 {
			return pebble.SpanPolicy{}, end, nil
		}
	}
	return pebble.SpanPolicy{}, nil, nil
}

// chained says whether the newest level may have a chain of tables that touch at their ends. It takes locks of Pebble.
func (h *historyMover) chained() bool {
	db := h.db.Load()
	return db != nil && db.Metrics().Levels[0].Sublevels >= chainedSublevels
}

// flushed is called after each flush, with locks of Pebble held.
func (h *historyMover) flushed(tables []pebble.TableInfo) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	behind := h.behind
	for _, t := range tables {
		first, last := t.Smallest.UserKey, t.Largest.UserKey
		if first[0] < SpaceHistory && last[0] >= SpaceHistory {
			h.moves = nil // it lies on what waits
		}
		if last[0] != SpaceHistory {
			continue
		}
		main, sub, ok := DecodeRevKey(last)
		if !ok {
			continue
		}
		if next := AppendRevKey(nil, SpaceHistory, main, sub+1); behind == nil || CompareKeys(behind, next) < 0 {
			behind = next
		}
		if first[0] == SpaceHistory && h.behind != nil && CompareKeys(first, h.behind) >= 0 && len(h.moves) < movesMax {
			h.moves = append(h.moves, historyTable{slices.Clone(first), slices.Clone(last)})
		}
	}
	h.behind = behind
	if len(h.moves) > 0 {
		select {
		case h.wake <- struct{}{}:
		default:
		}
	}
}

func (h *historyMover) next() (t historyTable, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.moves) == 0 {
		return historyTable{}, false
	}
	t, h.moves = h.moves[0], h.moves[1:]
	return t, true
}

// run moves one table after the other: Pebble moves what is compacted alone, and merges two.
func (h *historyMover) run(f *failure) {
	defer close(h.ended)
	defer func() {
		if r := recover(); r != nil && f.check() == nil {
			panic(r) // of a database that has failed nobody waits for this to end before it is closed
		}
	}()
	for {
		select {
		case <-h.wake:
		case <-h.ctx.Done():
			return
		case <-f.done:
			return
		}
		for t, ok := h.next(); ok; t, ok = h.next() {
			if bytes.Equal(t.first, t.last) {
				continue // Compact knows no range of one key
			}
			if h.db.Load().Compact(h.ctx, t.first, t.last, false) != nil {
				return // Pebble has told of its failure, or is being closed
			}
		}
	}
}
