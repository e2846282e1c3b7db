package mvcc

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// runSizes bounds runs, in live keys, and chunks, in runs. A run that has grown to max is cut into runs of target; a
// small one that shrinks joins its neighbour when both together stay below half of target. What is measured in pieces is cut into those of
// piece live keys, and what was measured is corrected by up to so many changes for each of its keys.
type runSizes struct {
	max, target, chunk, piece int
	corrected                 float64
}

// defaultRunSizes makes the two ends of a count, which are looked at key by key, cost some 0.04 ms each. To correct by a change takes up to
// 12 µs, where the version has to be found among tables that are not in the cache, and to measure a key 0.1 to 0.4 µs.
var defaultRunSizes = runSizes{max: 256, target: 128, chunk: 128, piece: 2 << 10, corrected: 1. / 100}

// run is a stretch of keys from first up to the next run's first; live of them are live.
type run struct {
	first []byte
	live  int64
}

// chunk is a bounded number of runs.
type chunk struct {
	runs []run
	live int64
}

// runList is all runs in order, in chunks so that a change copies little. It is immutable: readers take it with the
// published state and need no lock. There is always a first run, named by the empty key.
type runList struct {
	sizes  runSizes
	chunks []*chunk
	before []int64 // live keys in the chunks before each
	live   int64
}

// runPos is the place of a run in a list. The place past the last has run 0 of a chunk that is not there.
type runPos struct{ chunk, run int }

func newRunList(runs []run, sizes runSizes) *runList {
	if len(runs) == 0 {
		runs = []run{{}}
	}
	var chunks []*chunk
	for part := range slices.Chunk(runs, sizes.chunk/2) {
		chunks = append(chunks, newChunk(part))
	}
	return listOf(chunks, sizes)
}

func newChunk(runs []run) *chunk {
	c := &chunk{runs: runs}
	for _, r := range runs {
		c.live += r.live
	}
	return c
}

func listOf(chunks []*chunk, sizes runSizes) *runList {
	l := &runList{sizes: sizes, chunks: chunks, before: make([]int64, len(chunks))}
	for i, c := range chunks {
		l.before[i] = l.live
		l.live += c.live
	}
	return l
}

// chunkOf returns the chunk that covers key.
func (l *runList) chunkOf(key []byte) int {
	return sort.Search(len(l.chunks), func(i int) bool {
		return bytes.Compare(l.chunks[i].runs[0].first, key) > 0
	}) - 1
}

// find returns the run that covers key.
func (l *runList) find(key []byte) runPos {
	c := l.chunkOf(key)
	return runPos{c, findRun(l.chunks[c].runs, key)}
}

// findRun returns the last of runs that begins at or before key.
func findRun(runs []run, key []byte) int {
	return sort.Search(len(runs), func(i int) bool { return bytes.Compare(runs[i].first, key) > 0 }) - 1
}

func (l *runList) at(p runPos) run { return l.chunks[p.chunk].runs[p.run] }

// pastEnd is the place after the last run.
func (l *runList) pastEnd() runPos { return runPos{len(l.chunks), 0} }

// after returns the place after p.
func (l *runList) after(p runPos) runPos {
	if p.run+1 < len(l.chunks[p.chunk].runs) {
		return runPos{p.chunk, p.run + 1}
	}
	return runPos{p.chunk + 1, 0}
}

// nameAfter returns the first key of the run behind the one that covers key, nil if there is none before the one that covers end.
func (l *runList) nameAfter(key, end []byte) []byte {
	p, last := l.after(l.find(key)), l.pastEnd()
	if !bytes.Equal(end, fromKeyOn) {
		last = l.find(end)
	}
	if p == l.pastEnd() || p.chunk > last.chunk || p.chunk == last.chunk && p.run >= last.run {
		return nil
	}
	return l.at(p).first
}

// cuts returns the first keys of runs that cut what lies between key and end into pieces, the last of which may be smaller.
func (l *runList) cuts(key, end []byte) (cuts [][]byte) {
	last := l.pastEnd()
	if !bytes.Equal(end, fromKeyOn) {
		last = l.find(end)
	}
	n := int64(0)
	for p := l.find(key); p != last; {
		n += l.at(p).live
		if p = l.after(p); p != last && n >= int64(l.sizes.piece) {
			cuts, n = append(cuts, l.at(p).first), 0
		}
	}
	return cuts
}

// rank returns the number of live keys in the runs before p.
func (l *runList) rank(p runPos) int64 {
	if p.chunk == len(l.chunks) {
		return l.live
	}
	n := l.before[p.chunk]
	for _, r := range l.chunks[p.chunk].runs[:p.run] {
		n += r.live
	}
	return n
}

// loadRuns reads the runs, or makes and stores them when there are none.
func loadRuns(db *storage.DB, sizes runSizes) (*runList, error) {
	lower := storage.AppendPlainKey(nil, storage.SpaceRuns)
	upper := storage.AppendPlainKey(nil, storage.SpaceRuns+1)
	it, err := db.NewIter(&storage.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	var runs []run
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var n [1]uint64
		var v []byte
		if v, err = it.ValueAndErr(); err == nil {
			err = decodeNumbers(v, n[:])
		}
		runs = append(runs, run{bytes.Clone(storage.PlainRest(it.Key())), int64(n[0])})
	}
	if cerr := it.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	if len(runs) == 0 {
		return buildRuns(db, sizes)
	}
	if len(runs[0].first) != 0 {
		return nil, fmt.Errorf("%w: the first run is named %q, not by the empty key", storage.ErrCorrupt, runs[0].first)
	}
	return newRunList(runs, sizes), nil
}

// buildRuns counts all keys and stores the runs. An empty store gets none: its first writer makes them.
func buildRuns(db *storage.DB, sizes runSizes) (*runList, error) {
	runs, err := cutRuns(db, sizes.target)
	if err != nil {
		return nil, err
	}
	if len(runs) == 1 && runs[0].live == 0 {
		return newRunList(runs, sizes), nil
	}
	b := db.NewBatch()
	defer b.Close()
	for _, r := range runs {
		if err := setRun(b, r); err != nil {
			return nil, err
		}
	}
	if err := db.Commit(b); err != nil {
		return nil, err
	}
	return newRunList(runs, sizes), nil
}

func cutRuns(db *storage.DB, target int) ([]run, error) {
	s := &Store{db: db}
	snap, err := openSnapshot(s, &published{})
	if err != nil {
		return nil, err
	}
	runs, err := snap.cut(nil, fromKeyOn, target)
	if cerr := snap.close(); err == nil {
		err = cerr
	}
	return runs, err
}

// cut cuts the newest live keys of [key, end) into runs of target; the first is named key. The last run
// may be shorter.
func (s *snapshot) cut(key, end []byte, target int) ([]run, error) {
	runs := []run{{first: bytes.Clone(key)}}
	c := s.scan(key, end, maxRevision)
	for c.next() {
		last := &runs[len(runs)-1]
		if last.live == int64(target) {
			runs = append(runs, run{first: bytes.Clone(c.key())})
			last = &runs[len(runs)-1]
		}
		last.live++
	}
	return runs, c.failure()
}

func setRun(b *storage.Batch, r run) error {
	key := storage.AppendPlainKey(nil, storage.SpaceRuns, r.first)
	return b.Set(key, binary.AppendUvarint(nil, uint64(r.live)), nil)
}

func deleteRun(b *storage.Batch, first []byte) error {
	return b.Delete(storage.AppendPlainKey(nil, storage.SpaceRuns, first), nil)
}
