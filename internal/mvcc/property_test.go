package mvcc

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// machine runs random operations on a store and on the model and compares what they answer. What is below, flushes,
// merges of tables, reopening, crashes, slices of compaction, must not show, but that a crash takes the newest groups.
type machine struct {
	t  *rapid.T
	fs *vfs.MemFS
	db *storage.DB
	s  *Store

	m    *model
	past map[uint64]*model // by applied index, to go back to after a crash
	view *View             // held open over other operations
	held *model            // the model when view was opened

	promised, made []Hash // of compactions: those not begun, and those kept

	events []keptEvent
}

// keptEvent is an event of a group that somebody keeps, with what it said then.
type keptEvent struct {
	from     []Event
	at       int
	key, raw string
}

// keep keeps the events of a group that was committed: in the slice that they came in, or, when that is given back, in a copy of it.
func (x *machine) keep(t *rapid.T, w *Writer) {
	events := w.Events()
	if rapid.Bool().Draw(t, "release") {
		events = slices.Clone(events)
		w.Release()
	}
	for i, e := range events {
		kv, err := e.Load()
		x.must(err, "loading an event")
		x.events = append(x.events, keptEvent{events, i, string(e.Key), string(kv.Raw())})
	}
}

// eventsStay checks that no group has touched what the events of those before it hold.
func (x *machine) eventsStay(t *rapid.T) {
	for _, k := range x.events {
		e := k.from[k.at]
		if kv, err := e.Load(); err != nil || string(e.Key) != k.key || string(kv.Raw()) != k.raw {
			t.Fatalf("an event of %q and %q has become one of %q and %q (%v)", k.key, k.raw, e.Key, kv.Raw(), err)
		}
	}
}

var keyGen = rapid.OneOf(
	rapid.SampledFrom([]string{"a", "a\x00", "a\x00b", "ab", "b", "\x00", "\xff", "\xff\xff"}),
	rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("k%02d", rapid.IntRange(0, 40).Draw(t, "n")) }),
)

var endGen = rapid.OneOf(rapid.Just(""), rapid.Just("\x00"), keyGen, rapid.Just("l"))

// valueGen straddles the length from which on values lie in records of their own.
var valueGen = rapid.OneOf(
	rapid.SampledFrom([]string{"", "v", "w", "xyz", strings.Repeat("long", 500)}),
	rapid.SampledFrom([]string{"", strings.Repeat("a", largeMin-1), strings.Repeat("b", largeMin), strings.Repeat("c", largeMin+1),
		strings.Repeat("d", 70_000)}),
)

func TestStoreBehavesLikeTheModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		x := &machine{t: rt, fs: vfs.NewCrashableMem(), m: newModel(), past: map[uint64]*model{}}
		x.past[0] = x.m.clone()
		x.open()
		defer func() {
			x.closeView()
			if err := x.db.Close(); err != nil && !rt.Failed() {
				rt.Errorf("closing: %v", err)
			}
		}()
		rt.Repeat(map[string]func(*rapid.T){
			"group":   x.group,
			"group2":  x.group,
			"read":    x.read,
			"read2":   x.read,
			"again":   x.again,
			"measure": x.measuredAgain,
			"hold":    x.hold,
			"compact": x.compactStep,
			"flush":   x.flush,
			"merge":   x.merge,
			"reopen":  x.reopen,
			"crash":   x.crash,
			"hash":    x.hash,
			"history": x.history,
			"check":   x.check,
			"events":  x.eventsStay,
		})
		x.check(rt)
		x.eventsStay(rt)
	})
}

func (x *machine) must(err error, doing string) {
	if err != nil {
		x.t.Fatalf("%s: %v", doing, err)
	}
}

func (x *machine) open() {
	var err error
	x.db, err = storage.OpenState("state", storage.Options{FS: x.fs})
	x.must(err, "opening the database")
	x.s, err = open(x.db, smallRuns)
	x.must(err, "opening the store")
	x.promised, x.made = nil, nil
}

// group writes several entries in one batch, commits or discards it.
func (x *machine) group(t *rapid.T) {
	x.t = t
	w := x.s.NewWriter()
	before, promised := x.m.clone(), x.promised
	if rapid.Bool().Draw(t, "ahead") {
		for range 3 * aheadMin {
			w.Expect([]byte(keyGen.Draw(t, "expected")), rapid.Bool().Draw(t, "previous"))
		}
		x.must(w.ReadAhead(), "reading ahead")
	}
	for range rapid.IntRange(1, 4).Draw(t, "entries") {
		x.entry(t, w)
	}
	if rapid.IntRange(0, 9).Draw(t, "discard") == 0 {
		w.Discard()
		x.m, x.promised = before, promised
		return
	}
	x.m.index++
	w.SetApplied(x.m.index, 3)
	x.must(w.Commit(), "committing")
	x.keep(t, w)
	x.past[x.m.index] = x.m.clone()
	if x.s.Revision() != x.m.revision || x.s.CompactRevision() != x.m.compact {
		t.Fatalf("at revision %d compacted to %d, want %d, %d", x.s.Revision(), x.s.CompactRevision(), x.m.revision, x.m.compact)
	}
}

func (x *machine) entry(t *rapid.T, w *Writer) {
	if rapid.IntRange(0, 7).Draw(t, "schedule") == 0 {
		rev := rapid.Int64Range(-1, x.m.revision+1).Draw(t, "to")
		before := x.m.clone()
		err := w.ScheduleCompact(rev)
		if !sameError(err, x.m.scheduleCompact(rev)) {
			t.Fatalf("compaction to %d: %v", rev, err)
		}
		if err == nil {
			x.promised = append(x.promised[:len(x.promised):len(x.promised)], Hash{before.hashCompaction(rev), before.compact, rev})
		}
		return
	}
	w.Begin()
	for range rapid.IntRange(0, 5).Draw(t, "changes") {
		x.change(t, w)
	}
	if w.Revision() != x.m.current() {
		t.Fatalf("writer at %d, want %d", w.Revision(), x.m.current())
	}
	changed := x.m.sub > 0
	x.m.end()
	if rev, c := w.End(); rev != x.m.revision || c != changed {
		t.Fatalf("entry ended at %d, %v, want %d, %v", rev, c, x.m.revision, changed)
	}
}

func (x *machine) change(t *rapid.T, w *Writer) {
	key := keyGen.Draw(t, "key")
	switch rapid.IntRange(0, 9).Draw(t, "change") {
	default:
		value := valueGen.Draw(t, "value")
		lease := rapid.SampledFrom([]int64{0, 0, 0, 5, -7}).Draw(t, "lease")
		if rapid.Bool().Draw(t, "blind") {
			if err := w.PutBlind([]byte(key), []byte(value), lease); err != nil {
				t.Fatalf("put %q: %v", key, err)
			}
			x.m.put(key, value, lease)
			return
		}
		old, live := x.m.at(key, x.m.current())
		prev, existed, err := w.Put([]byte(key), []byte(value), lease)
		if err != nil || existed != live || live && kvText(prev) != old.String() {
			t.Fatalf("put %q replaced %s, %v, %v, want %v, %v", key, kvText(prev), existed, err, old, live)
		}
		x.m.put(key, value, lease)
	case 0, 1:
		end := endGen.Draw(t, "end")
		var got, want []string
		n, err := w.DeleteRange([]byte(key), []byte(end), func(kv KV) error {
			got = append(got, kvText(kv))
			return nil
		})
		for _, v := range x.m.deleteRange(key, end) {
			want = append(want, v.String())
		}
		if err != nil || int(n) != len(want) || strings.Join(got, " ") != strings.Join(want, " ") {
			t.Fatalf("deleting [%q, %q) deleted %d, %v, %v, want %v", key, end, n, got, err, want)
		}
	case 2, 3:
		compareRange(t, w, x.m, x.options(t, x.m.current()))
	case 4:
		want, live := x.m.at(key, x.m.current())
		kv, found, err := w.Get([]byte(key))
		if err != nil || found != live || live && kvText(kv) != want.String() {
			t.Fatalf("get %q is %s, %v, %v, want %v", key, kvText(kv), found, err, want)
		}
	}
}

// options draws a range; its revision may lie outside of what can be read.
func (x *machine) options(t *rapid.T, current int64) RangeOptions {
	o := RangeOptions{Key: []byte(keyGen.Draw(t, "key")), End: []byte(endGen.Draw(t, "end"))}
	if rapid.Bool().Draw(t, "old") {
		o.Rev = rapid.Int64Range(1, current+1).Draw(t, "rev")
	}
	if rapid.Bool().Draw(t, "limited") {
		o.Limit = rapid.Int64Range(1, 9).Draw(t, "limit")
	}
	switch rapid.IntRange(0, 7).Draw(t, "shape") {
	case 0:
		o.CountOnly = true
	case 1, 2:
		o.Order = SortOrder(rapid.IntRange(0, 2).Draw(t, "order"))
		o.Target = SortTarget(rapid.IntRange(0, 4).Draw(t, "target"))
	case 3:
		o.Order = SortDescend
	case 4:
		o.MinMod = rapid.Int64Range(0, current).Draw(t, "min mod")
		o.MaxCreate = rapid.Int64Range(0, current).Draw(t, "max create")
	case 5:
		o.MaxMod = rapid.Int64Range(0, current).Draw(t, "max mod")
		o.MinCreate = rapid.Int64Range(0, current).Draw(t, "min create")
		o.Order = SortOrder(rapid.IntRange(0, 2).Draw(t, "order"))
	}
	o.KeysOnly = rapid.IntRange(0, 3).Draw(t, "keys only") == 0
	return o
}

func compareRange(t *rapid.T, r Reader, m *model, o RangeOptions) {
	want, wantErr := m.read(o)
	got, err := rangeText(r, o)
	if !sameError(err, wantErr) || got != want {
		t.Fatalf("range %+v\n got %s (%v)\nwant %s (%v)", o, got, err, want, wantErr)
	}
}

// compareNewest compares what is answered from memory.
func compareNewest(t *rapid.T, s *Store, m *model, o RangeOptions) {
	kv, res, ok := s.Newest(o)
	if !ok {
		return
	}
	got := ""
	if kv.Exists() {
		got = kvText(kv) + " "
	}
	got += fmt.Sprintf("count %d", res.Count)
	if want, err := m.read(o); err != nil || got != want || res.Rev != m.revision {
		t.Fatalf("range %+v from memory\n got %s at %d\nwant %s (%v) at %d", o, got, res.Rev, want, err, m.revision)
	}
}

// again reads single keys, and those that are kept from memory, with the views that are open.
func (x *machine) again(t *rapid.T) {
	v, err := x.s.View(0)
	x.must(err, "opening a view")
	defer v.Close()
	for range rapid.IntRange(1, 8).Draw(t, "reads") {
		o := RangeOptions{Key: []byte(rapid.SampledFrom([]string{"a", "ab", "k01", "k02"}).Draw(t, "key"))}
		compareNewest(t, x.s, x.m, o)
		if x.view != nil && rapid.Bool().Draw(t, "held") {
			compareRange(t, x.view, x.held, o)
		} else {
			compareRange(t, v, x.m, o)
		}
		compareNewest(t, x.s, x.m, o)
	}
}

func (x *machine) read(t *rapid.T) {
	v, err := x.s.View(0)
	x.must(err, "opening a view")
	defer v.Close()
	for range rapid.IntRange(1, 3).Draw(t, "ranges") {
		o := x.options(t, x.m.revision)
		compareRange(t, v, x.m, o)
		compareMeasured(t, v, o)
		compareNewest(t, x.s, x.m, o)
	}
	if x.view != nil {
		o := x.options(t, x.held.revision)
		compareRange(t, x.view, x.held, o)
		compareMeasured(t, x.view, o)
	}
	// Pages, as Kubernetes reads them: the count of each is that of what is left.
	o := RangeOptions{Key: []byte{0}, End: []byte("\x00"), Rev: x.m.revision, Limit: 4}
	for more := true; more; {
		var last []byte
		compareRange(t, v, x.m, o)
		res, err := v.Range(o, func(kv KV) error { last = append(last[:0], kv.Key()...); return nil })
		x.must(err, "reading a page")
		more = res.More
		o.Key = append(last, 0)
	}
}

// hold opens a view that stays open while the store goes on.
func (x *machine) hold(t *rapid.T) {
	x.closeView()
	var err error
	x.view, err = x.s.View(0)
	x.must(err, "opening a view")
	x.held = x.m.clone()
}

func (x *machine) closeView() {
	if x.view != nil {
		_ = x.view.Close()
		x.view = nil
	}
}

func (x *machine) compactStep(t *rapid.T) {
	done, err := x.s.CompactStep(context.Background(), rapid.IntRange(1, 9).Draw(t, "records"))
	if err != nil || done == x.s.CompactPending() {
		t.Fatalf("slice of compaction: done %v, pending %v, %v", done, x.s.CompactPending(), err)
	}
	x.made, x.promised = append(x.made, x.promised...), nil
	x.made = x.made[max(0, len(x.made)-keptMax):]
}

func (x *machine) flush(*rapid.T) { x.must(x.db.Flush(), "flushing") }

func (x *machine) merge(*rapid.T) { x.must(x.db.CompactAll(context.Background()), "merging tables") }

func (x *machine) reopen(*rapid.T) {
	x.closeView()
	x.must(x.db.Close(), "closing")
	x.open()
}

// crash leaves what a power cut would: the store must be as it was after some earlier group.
func (x *machine) crash(t *rapid.T) {
	x.closeView()
	seed := rapid.Uint64().Draw(t, "seed")
	left := x.fs.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: rapid.SampledFrom([]int{0, 30, 100}).Draw(t, "percent"),
		RNG:                 rand.New(rand.NewPCG(seed, 1)),
	})
	x.must(x.db.Close(), "closing")
	x.fs = left
	x.open()
	index, _ := x.s.Applied()
	m, ok := x.past[index]
	if !ok {
		t.Fatalf("after a crash at index %d the store is at %d", x.m.index, index)
	}
	x.m = m.clone()
	if x.s.Revision() != x.m.revision || x.s.CompactRevision() != x.m.compact {
		t.Fatalf("after a crash: at revision %d compacted to %d, want %d, %d", x.s.Revision(), x.s.CompactRevision(), x.m.revision, x.m.compact)
	}
	x.check(t)
}

func (x *machine) hash(t *rapid.T) {
	for _, want := range x.made {
		got, compactRev, hashRev, err := x.s.HashKV(context.Background(), want.Revision)
		if err != nil || (Hash{got, compactRev, hashRev}) != want {
			t.Fatalf("kept hash is %d at %d compacted to %d (%v), want %+v", got, hashRev, compactRev, err, want)
		}
	}
	rev := rapid.Int64Range(max(1, x.m.compact), x.m.revision).Draw(t, "rev")
	if _, kept := x.s.kept.at(rev); kept {
		return
	}
	got, compactRev, hashRev, err := x.s.HashKV(context.Background(), rev)
	if want := x.m.hash(rev); err != nil || got != want || compactRev != x.m.compact || hashRev != rev {
		t.Fatalf("hash at %d is %d at %d compacted to %d (%v), want %d", rev, got, hashRev, compactRev, err, want)
	}
	v, err := x.s.View(rev)
	x.must(err, "opening a view")
	defer v.Close()
	if again, err := v.hashBy(context.Background(), 3); err != nil || again != got {
		t.Fatalf("hash at %d in passes of 3 records is %d (%v), at once %d", rev, again, err, got)
	}
}

func (x *machine) history(t *rapid.T) {
	from := rapid.Int64Range(max(1, x.m.compact), x.m.revision).Draw(t, "from")
	to := rapid.Int64Range(from, x.m.revision).Draw(t, "to")
	var got, want []string
	err := x.s.History(from, to, func(e Event) error {
		kv, err := e.Load()
		if err != nil {
			return err
		}
		got = append(got, fmt.Sprint(e.Rev, e.Kind, string(e.Key), kvText(kv)))
		return nil
	})
	// What compaction has not come to yet may still be there at the compact revision itself.
	for _, v := range x.m.versions(to) {
		if v.rev.Main < from || v.rev.Main <= x.m.compact && x.s.CompactPending() {
			continue
		}
		kind, text := EventPut, v.String()
		if v.deleted {
			kind, text = EventDelete, kvText(KV{})
		}
		want = append(want, fmt.Sprint(v.rev, kind, v.key, text))
	}
	if x.s.CompactPending() && len(got) > len(want) {
		got = got[len(got)-len(want):]
	}
	if err != nil || strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("history of [%d, %d]:\n%s\n(%v), want\n%s", from, to, strings.Join(got, "\n"), err, strings.Join(want, "\n"))
	}
}

// check looks at the records themselves, and that a finished compaction has left what it should and nothing else.
func (x *machine) check(t *rapid.T) {
	checkStore(failer{nil, t}, x.s)
	checkSize(failer{nil, t}, x.s)
	if x.s.CompactPending() {
		return
	}
	v, err := x.s.View(0)
	x.must(err, "opening a view")
	defer v.Close()
	h, err := v.snap.walkHistory(Revision{}, maxRevision-1)
	x.must(err, "walking history")
	defer h.close()
	for _, want := range x.m.versions(x.m.revision) {
		if !h.next() || h.rev != want.rev || string(h.key) != want.key {
			t.Fatalf("history after compaction to %d has %q at %v, want %q at %v", x.m.compact, h.key, h.rev, want.key, want.rev)
		}
	}
	if h.next() {
		t.Fatalf("history after compaction to %d has %q at %v too", x.m.compact, h.key, h.rev)
	}
}

// failer lets checks written for a testing.TB fail a rapid.T.
type failer struct {
	testing.TB
	t *rapid.T
}

func (f failer) Helper()                           {}
func (f failer) Fatal(args ...any)                 { f.t.Fatal(args...) }
func (f failer) Fatalf(format string, args ...any) { f.t.Fatalf(format, args...) }
