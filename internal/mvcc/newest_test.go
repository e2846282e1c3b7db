package mvcc

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// newestValue reads a key from memory, "" when it is not kept.
func newestValue(s *Store, key string) string {
	kv, _, _ := s.Newest(RangeOptions{Key: []byte(key)})
	return string(kv.Value())
}

func readOne(t testing.TB, s *Store, key string) {
	t.Helper()
	read(t, s, RangeOptions{Key: []byte(key)})
}

func TestAKeyIsKeptOnceItIsReadASecondTime(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "a", "1", "b", "2")
	for i, want := range []string{"", "", "1", "1"} {
		before := s.Views()
		if got := newestValue(s, "a"); got != want || s.Views()-before != uint64(len(want)) {
			t.Errorf("after %d reads: %q from memory, want %q; counted as %d", i, got, want, s.Views()-before)
		}
		readOne(t, s, "a")
	}
	if got := newestValue(s, "b"); got != "" {
		t.Errorf("%q of a key that was never read", got)
	}
}

func TestWhatIsKeptIsForgottenWhenItChanges(t *testing.T) {
	t.Parallel()
	change := map[string]func(t *testing.T, s *Store){
		"put again":           func(t *testing.T, s *Store) { put(t, s, "a", "2") },
		"deleted":             func(t *testing.T, s *Store) { del(t, s, "a", "") },
		"deleted with others": func(t *testing.T, s *Store) { del(t, s, "A", "z") },
	}
	for name, f := range change {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			put(t, s, "a", "1")
			readOne(t, s, "a")
			readOne(t, s, "a")
			if newestValue(s, "a") != "1" {
				t.Fatal("it is not kept")
			}
			f(t, s)
			if got := newestValue(s, "a"); got != "" {
				t.Errorf("%q is told from memory", got)
			}
		})
	}
	t.Run("a group discarded changes nothing", func(t *testing.T) {
		t.Parallel()
		s := newStore(t)
		put(t, s, "a", "1")
		readOne(t, s, "a")
		readOne(t, s, "a")
		w := s.NewWriter()
		w.Begin()
		if _, _, err := w.Put([]byte("a"), []byte("2"), 0); err != nil {
			t.Fatal(err)
		}
		w.End()
		w.Discard()
		if got := newestValue(s, "a"); got != "1" {
			t.Errorf("%q from memory", got)
		}
	})
}

func TestOnlyTheCurrentRevisionOfOneKeyComesFromMemory(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "a", "1")
	readOne(t, s, "a")
	readOne(t, s, "a")
	for name, o := range map[string]RangeOptions{
		"a revision that is named": {Key: []byte("a"), Rev: s.Revision()},
		"the first revision":       {Key: []byte("a"), Rev: 1},
		"a range":                  {Key: []byte("a"), End: []byte("b")},
		"all keys":                 {Key: []byte("a"), End: []byte{0}},
	} {
		if _, _, ok := s.Newest(o); ok {
			t.Errorf("%s was answered", name)
		}
	}
}

// TestAnOlderViewPutsNothingStaleIn: what a view found out before a change is not what the key is after it.
func TestAnOlderViewPutsNothingStaleIn(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "a", "1")
	old, err := s.View(0)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	put(t, s, "a", "2")
	for range 3 {
		if kv := one(t, old, "a"); string(kv.Value()) != "1" {
			t.Fatalf("the old view reads %q", kv.Value())
		}
		if got := newestValue(s, "a"); got != "" {
			t.Errorf("%q from memory", got)
		}
	}
	readOne(t, s, "a")
	readOne(t, s, "a")
	if got := newestValue(s, "a"); got != "2" {
		t.Errorf("%q from memory after it was read again", got)
	}
}

func TestARetiredStoreAnswersNothingFromMemory(t *testing.T) {
	t.Parallel()
	s, end := openStore(t, vfs.NewMem(), defaultRunSizes)
	defer end()
	put(t, s, "a", "1")
	readOne(t, s, "a")
	readOne(t, s, "a")
	before := newestValue(s, "a")
	s.Retire(func() {})
	if after := newestValue(s, "a"); before != "1" || after != "" {
		t.Errorf("%q before, %q afterwards", before, after)
	}
}

// one reads one key through a view by a range.
func one(t testing.TB, v *View, key string) (out KV) {
	t.Helper()
	if _, err := v.Range(RangeOptions{Key: []byte(key)}, func(kv KV) error { out = kv.Clone(); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	t.Parallel()
	n := new(newest)
	p := &published{revision: 1}
	found := 0
	const keys, size = 3 * newestBytes / 1000, 1000
	for i := range keys {
		f := fields{key: fmt.Appendf(nil, "key-%d", i), value: bytes.Repeat([]byte("v"), size), create: 1, mod: 1, version: 1}
		for range 2 {
			n.put(f.key, KV{f.append(nil)}, 1, 1)
		}
		if b := n.bytes.Load(); b > newestBytes {
			t.Fatalf("%d bytes are kept", b)
		}
		if kv, ok := n.get(f.key, p); ok && bytes.Equal(kv.raw, f.append(nil)) {
			found++
		}
	}
	if found < keys/2 {
		t.Errorf("%d of %d keys were kept when they were read", found, keys)
	}
	sum := int64(0)
	for i := range n.slots.Load() {
		if e := n.slots.Load()[i].Load(); e != nil {
			sum += e.bytes()
		}
	}
	if sum != n.bytes.Load() || sum < newestBytes/2 {
		t.Errorf("%d bytes are kept, %d are counted", sum, n.bytes.Load())
	}
	large := fields{key: []byte("large"), value: make([]byte, newestMax), create: 1, mod: 1, version: 1}
	for range 3 {
		n.put(large.key, KV{large.append(nil)}, 1, 1)
	}
	if _, ok := n.get(large.key, p); ok {
		t.Error("a large version is kept")
	}
}

// TestNoReaderSeesLessThanWasPublished has readers compare what they read, from memory and from views, with what was published
// when they began and when they ended: few keys, of which two share their mark, that are put, deleted and compacted all the time.
func TestNoReaderSeesLessThanWasPublished(t *testing.T) {
	t.Parallel()
	const keys, rounds, readers = 8, 3000, 3
	s := newStore(t)
	// latest holds the value of each key that is published: it only grows; begun is the one being written.
	var latest, begun [keys]atomic.Int64
	name := func(i int) []byte { return fmt.Appendf(nil, "key-%d", i) }
	var fromMemory atomic.Int64
	look := func(i int) error {
		least := latest[i].Load()
		o := RangeOptions{Key: name(i)}
		kv, _, ok := s.Newest(o)
		if ok {
			fromMemory.Add(1)
		} else {
			v, err := s.View(0)
			if err != nil {
				return err
			}
			defer v.Close()
			if _, err := v.Range(o, func(x KV) error { kv = x.Clone(); return nil }); err != nil {
				return err
			}
		}
		most := begun[i].Load()
		if !kv.Exists() {
			return nil // deleted for a moment
		}
		got, err := strconv.ParseInt(string(kv.Value()), 10, 64)
		if err != nil || got < least || got > most || !bytes.Equal(kv.Key(), o.Key) {
			return fmt.Errorf("key %d is %q (%v), from memory: %v; published is %d, begun %d", i, kv.Value(), err, ok, least, most)
		}
		return nil
	}
	stop := make(chan struct{})
	var others sync.WaitGroup
	for n := range readers {
		r := rand.New(rand.NewPCG(uint64(n), 7))
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				i := r.IntN(keys)
				for range 1 + r.IntN(4) {
					if err := look(i); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	write(t, s, rounds, func(w *Writer, r *rand.Rand, round int) (done func()) {
		i := r.IntN(keys)
		if r.IntN(8) == 0 {
			if _, err := w.DeleteRange(name(i), nil, nil); err != nil {
				t.Error(err)
			}
			return func() {}
		}
		begun[i].Store(int64(round))
		if err := w.PutBlind(name(i), strconv.AppendInt(nil, int64(round), 10), 0); err != nil {
			t.Error(err)
		}
		return func() { latest[i].Store(int64(round)) }
	})
	close(stop)
	others.Wait()
	if fromMemory.Load() == 0 {
		t.Error("nothing was read from memory")
	}
}

// write commits so many groups of one change each, and compacts now and then; change returns what to do once its group is published.
func write(t *testing.T, s *Store, rounds int, change func(w *Writer, r *rand.Rand, round int) (done func())) {
	r := rand.New(rand.NewPCG(3, 3))
	for round := range rounds {
		var done func()
		entry(t, s, func(w *Writer) { done = change(w, r, round) })
		done()
		if round%200 != 199 {
			continue
		}
		compact(t, s, s.Revision())
		if _, err := s.CompactStep(context.Background(), 50); err != nil {
			t.Error(err)
		}
		if err := s.db.Flush(); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkNewest(b *testing.B) {
	db, err := storage.OpenState(b.TempDir(), storage.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	s, err := Open(db)
	if err != nil {
		b.Fatal(err)
	}
	const keys = 10_000
	fill(b, s, keys, putter(keys, value(256)))
	all := make([][]byte, keys)
	for i := range all {
		all[i] = benchKey(i)
		readOne(b, s, string(all[i]))
		readOne(b, s, string(all[i]))
	}
	b.ReportAllocs()
	missed := 0
	r := rand.New(rand.NewPCG(5, 6))
	for b.Loop() {
		if _, _, ok := s.Newest(RangeOptions{Key: all[r.IntN(keys)]}); !ok {
			missed++
		}
	}
	b.ReportMetric(float64(missed)/float64(b.N), "missed/op")
}
