package mvcc

import (
	"bytes"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
)

// ErrMeasure is returned by who is given key-values out, to have this one and those behind it only measured (RangeOptions.Measure).
var ErrMeasure = errors.New("the rest is only to be measured")

const (
	// untoldMax is how many key-values Measure is told of at a time.
	untoldMax = 1 << 10
	// piecesMin is how many pieces are worth more than one goroutine.
	piecesMin = 16
	// besidesMax is how many goroutines measure beside the one that was asked to, at most.
	besidesMax = 3
)

// measure takes the length of a key-value that is not given out.
func (q *query) measure(n int) error {
	n = bytesSize(n)
	q.length += n
	q.untold += n
	if q.untoldKeys++; q.untoldKeys < untoldMax {
		return nil
	}
	return q.tell()
}

// lengthOf returns the length of what would be given out of a version.
func (q *query) lengthOf(r record) int {
	if q.o.KeysOnly {
		return len(q.withoutValue(r).Raw())
	}
	return r.size()
}

// tell tells Measure what it was not told yet.
func (q *query) tell() error {
	n := q.untold
	q.untold, q.untoldKeys = 0, 0
	return q.o.Measure(n)
}

// measureRest measures what comes behind key in the range; false when that is left to the cursor.
func (q *query) measureRest(key []byte, backwards bool) (done bool, err error) {
	if done, err := q.recall(); done || err != nil {
		return done, err
	}
	if p := q.pieces(key, backwards); p != nil {
		return true, p.measure()
	}
	return false, nil
}

// pieces is the rest of a range that is measured by several goroutines beside each other. Nothing of an answer can be sent, and its client has
// nothing to do, before its length is known. Each takes one piece after another: some lie in memory, and some are read from files.
type pieces struct {
	q    *query
	view *View
	keys [][]byte // each piece lies between one and the next
	next atomic.Int64

	asked uint64 // of the store, when it began

	mu  sync.Mutex // for what follows, for Measure, and for q
	err error      // the first
}

// pieces returns the pieces of what comes behind key in the range; nil if it is to be walked over by one.
func (q *query) pieces(key []byte, backwards bool) *pieces {
	v := q.src.apart()
	if v == nil || backwards || q.o.Limit > 0 {
		return nil
	}
	cuts := v.snap.now.runs.cuts(key, q.o.End)
	if len(cuts) < piecesMin-1 {
		return nil
	}
	keys := append([][]byte{append(bytes.Clone(key), 0)}, cuts...)
	return &pieces{q: q, view: v, keys: append(keys, q.o.End), asked: v.snap.store.asked()}
}

// measure measures all pieces. The view's iterator is moved.
func (p *pieces) measure() error {
	var others sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0)-1, besidesMax) {
		v, err := p.view.beside()
		if err != nil {
			p.fail(err)
		}
		if v == nil {
			break
		}
		others.Go(func() {
			p.walk(v, p.quiet)
			p.fail(v.endBeside())
		})
	}
	p.walk(p.view, nil)
	others.Wait()
	return p.err
}

// quiet says whether nobody has asked the store for anything since: others would wait where all processors measure.
func (p *pieces) quiet() bool { return p.view.snap.store.asked() == p.asked }

// walk measures one piece after another by a view, as long as more says so, if that is not nil.
func (p *pieces) walk(v *View, more func() bool) {
	q := query{o: p.q.o, rev: p.q.rev, src: v, measuring: true}
	q.o.Measure = p.tell
	for more == nil || more() {
		i := p.next.Add(1)
		if i >= int64(len(p.keys)) {
			break
		}
		q.o.Key, q.o.End = p.keys[i-1], p.keys[i]
		if err := q.run(); err != nil {
			p.fail(err)
			return
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.q.count += q.count
	p.q.given += q.given
	p.q.length += q.length
}

// tell is Measure of the pieces. It ends those that go on after an error.
func (p *pieces) tell(length int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = p.q.o.Measure(length)
	}
	return p.err
}

// fail takes the first error.
func (p *pieces) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
}

// beside returns a view of the same for another goroutine, to be ended by endBeside before this one is closed; nil when there are enough of
// those in the store.
func (v *View) beside() (*View, error) {
	s := v.snap.store
	if s.besides.Add(1) > int32(min(runtime.GOMAXPROCS(0)-1, besidesMax)) {
		s.besides.Add(-1)
		return nil, nil
	}
	twin, err := v.twin()
	if err != nil {
		s.besides.Add(-1)
	}
	return twin, err
}

// endBeside closes what beside has returned.
func (v *View) endBeside() error {
	defer v.snap.store.besides.Add(-1)
	return v.endTwin()
}

// twin returns a view of the same, to be ended by endTwin before this one is closed.
func (v *View) twin() (*View, error) {
	it, err := v.snap.clone(dataLower, largeUpper)
	if err != nil {
		return nil, err
	}
	return &View{snap: snapshot{store: v.snap.store, now: v.snap.now, it: it}, rev: v.rev, compact: v.compact}, nil
}

// endTwin closes what twin has returned.
func (v *View) endTwin() error { return errors.Join(v.snap.large.close(), v.snap.it.Close()) }
