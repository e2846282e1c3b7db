package mvcc

import (
	"bytes"
	"sort"

	"github.com/ashlar-kv/ashlar/internal/invariant"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// countDelta says that key became live (+1) or ceased to be (-1) in a group.
type countDelta struct {
	key []byte
	n   int64
}

// runEdit makes a new list of runs out of one and a group's changes, and writes the records that differ. A run that was
// full before the group is cut first: how, base tells, since its list and its data are of one revision.
type runEdit struct {
	list  *runList
	base  *snapshot
	batch *storage.Batch
}

// apply returns the new list. deltas are in order of the keys, one a key.
func (e *runEdit) apply(deltas []countDelta) (*runList, error) {
	chunks := append([]*chunk(nil), e.list.chunks...)
	for len(deltas) > 0 {
		// From the last chunk to the first, so that places before the one replaced stay.
		ci := e.list.chunkOf(deltas[len(deltas)-1].key)
		first := e.list.chunks[ci].runs[0].first
		from := sort.Search(len(deltas), func(i int) bool { return bytes.Compare(deltas[i].key, first) >= 0 })
		var end []byte = fromKeyOn
		if ci+1 < len(e.list.chunks) {
			end = e.list.chunks[ci+1].runs[0].first
		}
		runs, err := e.editRuns(e.list.chunks[ci].runs, deltas[from:], end, ci == 0)
		if err != nil {
			return nil, err
		}
		chunks = append(chunks[:ci], append(chunksOf(runs, e.list.sizes.chunk), chunks[ci+1:]...)...)
		deltas = deltas[:from]
	}
	return listOf(chunks, e.list.sizes), nil
}

func chunksOf(runs []run, chunkMax int) []*chunk {
	switch {
	case len(runs) == 0:
		return nil
	case len(runs) <= chunkMax:
		return []*chunk{newChunk(runs)}
	default:
		half := len(runs) / 2
		return append(chunksOf(runs[:half:half], chunkMax), chunksOf(runs[half:], chunkMax)...)
	}
}

// editRuns applies deltas to the runs of one chunk, which covers keys up to end. head tells that the chunk is the first.
func (e *runEdit) editRuns(runs []run, deltas []countDelta, end []byte, head bool) ([]run, error) {
	out := make([]run, 0, len(runs)+2)
	for i, r := range runs {
		next := end
		if i+1 < len(runs) {
			next = runs[i+1].first
		}
		n := 0
		for n < len(deltas) && inRange(deltas[n].key, r.first, next) {
			n++
		}
		if n == 0 {
			out = append(out, r)
			continue
		}
		parts, err := e.editRun(r, deltas[:n], next)
		if err != nil {
			return nil, err
		}
		deltas = deltas[n:]
		for _, p := range parts {
			if out, err = e.add(out, p, head); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// editRun applies deltas, all of them in r, and cuts r before if it is full.
func (e *runEdit) editRun(r run, deltas []countDelta, end []byte) ([]run, error) {
	parts := []run{r}
	if r.live >= int64(e.list.sizes.max) {
		cut, err := e.base.cut(r.first, end, e.list.sizes.target)
		if err != nil {
			return nil, err
		}
		parts = cut
	}
	for _, d := range deltas {
		parts[findRun(parts, d.key)].live += d.n
	}
	return parts, nil
}

// add appends a changed run to out, or joins it to the one before, and writes what that changes.
func (e *runEdit) add(out []run, r run, head bool) ([]run, error) {
	invariant.Check(r.live >= 0, "run %q has %d live keys", r.first, r.live)
	alone := len(out) == 0
	switch {
	case alone && (head || r.live > 0), !alone && r.live > 0 && r.live+out[len(out)-1].live > int64(e.list.sizes.target/2):
		return append(out, r), setRun(e.batch, r)
	case alone:
		// Its keys, none live, fall to the last run of the chunk before.
		return out, deleteRun(e.batch, r.first)
	}
	last := &out[len(out)-1]
	last.live += r.live
	if err := deleteRun(e.batch, r.first); err != nil || r.live == 0 {
		return out, err
	}
	return out, setRun(e.batch, *last)
}
