package mvcc

import (
	"bytes"
	"runtime"
	"sync"
	"sync/atomic"
)

const (
	// aheadMin is how many keys must be expected for reading ahead to be worth another iterator.
	aheadMin = 8
	// aheadWindow is how many of the expected keys are compared with one that is asked for: requests that are
	// refused never ask for theirs.
	aheadWindow = 8
	// aheadValueMax is the size of the values that are kept for those who want them; others are read anew.
	aheadValueMax = 4 << 10
	// aheadReaders is how many goroutines read ahead at most.
	aheadReaders = 3
)

// ahead reads the newest versions of the keys that a group will put, in goroutines beside it: a version that is not
// in memory costs as much time as all the rest of a put. They read the state before the group, which nobody
// changes meanwhile, so what they find, and whether they find it in time, changes no result.
//
// Readers take keys from the last one to the first, the Writer from the first to the last; each key is read by who
// comes to it first. The Writer never waits for one.
type ahead struct {
	expected []expectedKey
	nextHead int // of expected, that which the Writer expects to put next

	keys []aheadKey
	next int          // of the Writer: the key it expects to be asked for
	left atomic.Int64 // of the readers: the keys before this one are not begun
	done sync.WaitGroup
}

// aheadKey is a key with what was found. A reader sets the fields below before state becomes aheadRead.
type aheadKey struct {
	key       []byte
	wantValue bool

	state atomic.Int32
	head  head
	raw   []byte // a copy, nil when not live or not kept
	whole bool   // raw is all there is to know
}

// States of an aheadKey.
const (
	aheadFree int32 = iota
	aheadTaken
	aheadRead
)

// Expect says that the group will put key, and whether with Put or PutBlind. It costs nothing to be wrong. key must
// not change until the group ends. It is to be called before the group's first entry begins.
func (w *Writer) Expect(key []byte, wantPrevious bool) {
	w.ahead.expected = append(w.ahead.expected, expectedKey{key: key, wantPrevious: wantPrevious})
}

// ReadAhead looks for the keys that are expected among those written lately, and begins to read the others.
func (w *Writer) ReadAhead() error {
	a := &w.ahead
	w.store.heads.find(a.expected)
	for i := range a.expected {
		if x := &a.expected[i]; !x.remembered || x.wantPrevious {
			a.keys = append(a.keys, aheadKey{key: x.key, wantValue: x.wantPrevious})
		}
	}
	readers := min(runtime.GOMAXPROCS(0)-1, aheadReaders, len(a.keys)/aheadMin)
	if readers <= 0 {
		a.keys = emptied(a.keys)
		return nil
	}
	if err := w.open(); err != nil {
		return err
	}
	a.left.Store(int64(len(a.keys)))
	for range readers {
		it, err := w.base.clone(dataLower, dataUpper)
		if err != nil {
			return err
		}
		a.done.Go(func() { a.read(snapshot{store: w.store, now: w.base.now, it: it}) })
	}
	return nil
}

// read is a reader. An error is met again by the Writer, which reads what was not read.
func (a *ahead) read(base snapshot) {
	defer func() { _ = base.it.Close() }() // it has only read
	var values heap
	for {
		i := a.left.Add(-1)
		if i < 0 || !a.keys[i].state.CompareAndSwap(aheadFree, aheadTaken) {
			return // the Writer has come as far
		}
		k := &a.keys[i]
		r, at, live, err := base.get(k.key, base.now.revision)
		if err != nil {
			return
		}
		k.whole = true
		if live {
			k.head = headOf(r, at)
			if k.whole = k.wantValue && r.size() <= aheadValueMax; k.whole { // so it is no stub
				k.raw = values.copy(r.stored)
			}
		}
		k.state.Store(aheadRead)
	}
}

// find returns what was read of key, nil when nothing was. The Writer calls it.
func (a *ahead) find(key []byte) *aheadKey {
	for i := a.next; i < min(a.next+aheadWindow, len(a.keys)); i++ {
		k := &a.keys[i]
		if !bytes.Equal(k.key, key) {
			continue
		}
		a.next = i + 1
		if k.state.CompareAndSwap(aheadFree, aheadTaken) || k.state.Load() != aheadRead {
			return nil
		}
		return k
	}
	return nil
}

// comes returns key's place among those that are expected, nil when it is not expected now. The Writer calls it for each key that it puts, or what is
// expected would fall behind.
func (a *ahead) comes(key []byte) *expectedKey {
	for i := a.nextHead; i < min(a.nextHead+aheadWindow, len(a.expected)); i++ {
		if x := &a.expected[i]; bytes.Equal(x.key, key) {
			a.nextHead = i + 1
			return x
		}
	}
	return nil
}

// newestHead returns the head of key, if it is remembered. x is key's place among those that are expected, if it has one.
func (w *Writer) newestHead(key []byte, x *expectedKey) (head, bool) {
	if x != nil {
		return x.head, x.remembered
	}
	return w.store.heads.get(key)
}

// stop ends the readers.
func (a *ahead) stop() {
	a.left.Store(0)
	a.done.Wait()
}
