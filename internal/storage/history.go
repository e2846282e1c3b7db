package storage

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

const (
	// chainedSublevels is how many sublevels the newest level may have for tables to end where history does. Where keys are put in order
	// the data of a flush, and what counts it, touch that of the one before at their ends alone. Pebble counts such a chain as one sublevel more for each flush, each a place
	// for a walk to look into, and compacts by how many tables lie on one key. Tables that go from the data through the history to what is behind it lie
	// on all of the chain and make both numbers the same.
	chainedSublevels = 8
	// orderedTables is how many tables of data tell whether flushes come in order: then each begins where the one before ends, and there is a chain soon.
	orderedTables = 3
	// A table of history below historyAlone waits for others, until there are gatheredMax of them or tableBytes, or a larger one behind them: they become one. Tables
	// that were moved touch each other nowhere, so nothing would ever merge them, and a member to which little is put flushes every few minutes.
	historyAlone = 1 << 20
	gatheredMax  = 64
	// movesMax is how many tables may wait; what comes then stays where it is, and is merged with the data beside it.
	movesMax = 256
)

// historyMover moves new records of history down as they are. They come in order of revision: those of a flush lie behind all that were
// flushed before, so there is nothing to merge them with; together with the data of their flush they would be written again by each compaction of it.
//
// Nothing depends on it: what is moved is compacted as Pebble compacts any range, and a guess of what lies where that is wrong costs work alone. So it is where Pebble has
// begun to compact a table that waits, or deletes of its records are in memory, for which Pebble makes a flush.
type historyMover struct {
	db     atomic.Pointer[pebble.DB] // nil until it is open
	ctx    context.Context           // ends all moves
	cancel context.CancelFunc
	wake   chan struct{}
	ended  chan struct{} // closed when no move goes on any more

	mu        sync.Mutex     // guards what follows; no lock of Pebble is taken while it is held
	behind    []byte         // the key behind all history that was flushed; that behind none before
	moves     []historyTable // in order
	lastTable []byte         // where the last table of data begins, of the last flush with orderedTables; nil before
	inOrder   bool           // that flush began behind where the last table of the one before it begins
}

// historyTable is a table of the newest level with nothing but new records of history: from first on, below end.
type historyTable struct {
	first, end []byte
	bytes      uint64
}

func newHistoryMover() *historyMover {
	ctx, cancel := context.WithCancel(context.Background())
	behind, _ := SpaceBounds(SpaceHistory)
	return &historyMover{ctx: ctx, cancel: cancel, wake: make(chan struct{}, 1), ended: make(chan struct{}), behind: behind}
}

// begin is called when the database is open and may be written to. What of the newest level is to be moved is found by a look at all tables, once. wedged is called if
// Pebble panics after a failure.
func (h *historyMover) begin(db *pebble.DB, f *failure, wedged func()) {
	if levels, err := db.SSTables(); err == nil { // it fails for wrong options alone
		h.found(levels)
	}
	h.db.Store(db)
	go h.run(f, wedged)
}

func (h *historyMover) found(levels [][]pebble.SSTableInfo) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for level, tables := range slices.Backward(levels) {
		for _, t := range tables { // of the newest level in the order in which they were flushed
			h.add(t.TableInfo, level == 0)
		}
	}
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
// which come in the order of their keys as well. While flushes come in order, or there is a chain, they end at large values alone.
func (h *historyMover) tableEnds(key []byte) (_ pebble.SpanPolicy, end []byte, _ error) {
	history, historyEnd := SpaceBounds(SpaceHistory)
	large, largeEnd := SpaceBounds(SpaceLarge)
	h.mu.Lock()
	behind, inOrder := h.behind, h.inOrder
	h.mu.Unlock()
	ends := [][]byte{history, behind, historyEnd, large, largeEnd}
	if CompareKeys(key, historyEnd) < 0 && (inOrder || h.chained()) {
		ends = ends[3:]
	}
	for _, end := range ends {
		if CompareKeys(key, end) < 0 {
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
	var data []pebble.TableInfo
	for _, t := range tables {
		h.add(t, true)
		if t.Smallest.UserKey[0] <= SpaceData && t.Largest.UserKey[0] >= SpaceData {
			data = append(data, t)
		}
	}
	if n := len(data); n >= orderedTables {
		h.inOrder = h.lastTable != nil && CompareKeys(data[0].Largest.UserKey, h.lastTable) >= 0
		h.lastTable = slices.Clone(data[n-1].Smallest.UserKey)
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// add takes in a table, to be moved if movable says so and it has only history that is new. REQUIRES: mu is held; of one flush tables come in order.
func (h *historyMover) add(t pebble.TableInfo, movable bool) {
	first, last := t.Smallest.UserKey, t.Largest.UserKey
	if movable && first[0] < SpaceHistory && last[0] >= SpaceHistory {
		h.moves = nil // it lies on what waits
	}
	main, sub, ok := DecodeRevKey(last)
	if last[0] != SpaceHistory || !ok {
		return
	}
	end := AppendRevKey(nil, SpaceHistory, main, sub+1)
	if movable && first[0] == SpaceHistory && CompareKeys(first, h.behind) >= 0 && len(h.moves) < movesMax {
		h.moves = append(h.moves, historyTable{slices.Clone(first), end, t.Size})
	}
	if CompareKeys(h.behind, end) < 0 {
		h.behind = end
	}
}

// next returns what is to be moved at once: a table of some size, or all small ones before it.
func (h *historyMover) next() (t historyTable, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	small := 0
	for small < len(h.moves) && h.moves[small].bytes < historyAlone {
		t.bytes += h.moves[small].bytes
		small++
	}
	switch {
	case small < len(h.moves):
		small = max(1, small)
	case t.bytes < tableBytes && small < gatheredMax:
		return historyTable{}, false
	}
	t.first, t.end = h.moves[0].first, h.moves[small-1].end
	h.moves = h.moves[small:]
	return t, true
}

// run moves one table after the other, as Pebble moves what is compacted alone and merges what is not.
func (h *historyMover) run(f *failure, wedged func()) {
	defer close(h.ended)
	defer func() {
		if r := recover(); r != nil {
			if f.check() == nil {
				panic(fmt.Sprintf("moving history: %v", r))
			}
			wedged() // of a database that has failed nobody waits for this to end before it is closed
		}
	}()
	for {
		for t, ok := h.next(); ok; t, ok = h.next() {
			if h.db.Load().Compact(h.ctx, t.first, t.end, false) != nil {
				return // Pebble has told of its failure, or is being closed
			}
		}
		select {
		case <-h.wake:
		case <-h.ctx.Done():
			return
		case <-f.done:
			return
		}
	}
}
