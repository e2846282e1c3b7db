package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/storage"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

var (
	crashSeed  = flag.Uint64("crash.seed", 0, "run this seed alone")
	crashSeeds = flag.Int("crash.seeds", 6, "how many seeds to run")
)

// TestACrashAtAnyWriteLeavesWhatWasAcknowledged runs random operations on a log and a state on one filesystem. At
// random writes, of the operations or of Pebble in the background, both are cut off at one instant: with none, a
// part, or all of what was not synced. Each remainder is opened and must be what the model allows:
//
//  1. the log is one of its versions since the last synced one, whole;
//  2. the state is the effect of exactly the entries up to its applied index;
//  3. the state is at least what was flushed, and mark ≤ applied ≤ last.
//
// With even seeds the newest segment has room ahead. One seed draws the same operations again; when the background writes fall differs from run to run.
func TestACrashAtAnyWriteLeavesWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	first, n := uint64(1), uint64(*crashSeeds)
	if *crashSeed != 0 {
		first, n = *crashSeed, 1
	}
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			t.Logf("again: go test ./internal/raftlog -run ACrash -crash.seed=%d", seed)
			w := newWorkload(t, seed)
			for range 150 {
				w.step()
			}
			w.close()
			if len(w.remains) < 10 {
				t.Fatalf("only %d crashes", len(w.remains))
			}
			for _, r := range w.remains {
				r.verify(t)
			}
		})
	}
}

// version is all that a log holds.
type version struct {
	what    string // the operation that made it
	mark    Mark
	hs      HardState
	entries []*raftpb.Entry
}

func (v version) last() uint64 { return v.mark.Index + uint64(len(v.entries)) }

// upTo returns a copy of the entries below index.
func (v version) upTo(index uint64) []*raftpb.Entry {
	return slices.Clone(v.entries[:index-v.mark.Index-1])
}

// remainder is a filesystem after a crash, and what may be on it.
type remainder struct {
	what     string
	fs       *vfs.MemFS
	versions []version // of the log, from the last synced one to the one being written
	flushed  uint64    // the state has at least this index applied
	ahead    bool      // the newest segment is extended ahead
}

// workload drives a log and a state, and cuts them off.
type workload struct {
	t     testing.TB
	rng   *rand.Rand // of the operations
	mem   *vfs.MemFS
	fs    storage.FS
	log   *Log
	state *storage.DB
	now   version // of the log, as acknowledged, synced or not

	applied uint64
	term    uint64

	mu      sync.Mutex // guards what follows, against the injector
	cuts    *rand.Rand
	model   remainder // as the next crash would leave it; fs and what are unset
	remains []remainder
}

const (
	crashRoot  = "data"
	crashesMax = 12 // a seed; each gives several remainders
)

func newWorkload(t testing.TB, seed uint64) *workload {
	w := &workload{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), cuts: rand.New(rand.NewPCG(seed, 2)),
		mem: vfs.NewCrashableMem(), term: 1,
	}
	w.model.ahead = seed%2 == 0
	w.fs = errorfs.Wrap(w.mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			w.maybeCut(op)
		}
		return nil
	}))
	w.state = openCrashState(t, w.fs, 1)
	must(t, w.state.Flush())
	must(t, storage.SyncDir(w.fs, storage.Root(crashRoot)))
	w.log = openCrashLog(t, w.fs, w.model.ahead)
	w.now = version{what: "bootstrap", mark: Mark{Generation: 1}, hs: HardState{Term: 1, Commit: 3}, entries: run(1, 4, 1)}
	must(t, w.log.Bootstrap(testIdentity, w.now.hs, w.now.entries, 1))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.model.versions = []version{w.now}
	return w
}

func openCrashLog(t testing.TB, fs storage.FS, ahead bool) *Log {
	t.Helper()
	var r *room
	if ahead {
		r = memoryRoom(fs)
	}
	l, err := Open(storage.LogDir(crashRoot, ""), Options{TailBytes: 20_000, SegmentBytes: 20_000, room: r, Storage: storage.Options{
		FS: fs, Fatal: func(err error) { t.Errorf("fatal: %v", err) },
	}})
	must(t, err)
	return l
}

func openCrashState(t testing.TB, fs storage.FS, generation uint64) *storage.DB {
	t.Helper()
	db, err := storage.OpenState(storage.StateDir(crashRoot, generation), storage.Options{
		FS: fs, MemTableBytes: 64 << 10, Fatal: func(err error) { t.Errorf("fatal: %v", err) },
	})
	must(t, err)
	return db
}

// maybeCut takes remainders now and then. The operation op has not happened yet.
func (w *workload) maybeCut(op errorfs.Op) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.model.versions) == 0 || w.cuts.IntN(40) != 0 || len(w.remains) >= 4*crashesMax {
		return
	}
	for i, percent := range []int{0, 30, 30, 100} {
		seed := w.cuts.Uint64()
		r := w.model
		r.versions = slices.Clone(r.versions)
		r.what = fmt.Sprintf("crash before %v of %s, %d %% of the unsynced (%d, %d)", op.Kind, op.Path, percent, i, seed)
		r.fs = w.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(seed, 3))})
		w.remains = append(w.remains, r)
	}
}

// write does one operation on the log that leaves it at next.
func (w *workload) write(next version, synced bool, do func() error) {
	w.t.Helper()
	w.mu.Lock()
	w.model.versions = append(w.model.versions, next)
	w.mu.Unlock()
	must(w.t, do())
	w.now = next
	if synced {
		w.mu.Lock()
		w.model.versions = []version{next}
		w.mu.Unlock()
	}
}

// step does one random operation.
func (w *workload) step() {
	w.t.Helper()
	switch w.rng.IntN(25) {
	case 0, 1, 2, 3, 4, 5, 6, 7:
		w.append(w.now.last()+1, 1+w.rng.Uint64N(30))
	case 8, 9, 10:
		w.term++
		lowest := max(w.applied, w.now.mark.Index) + 1
		w.append(lowest+w.rng.Uint64N(w.now.last()-lowest+2), 1+w.rng.Uint64N(12))
	case 11, 12:
		next := w.now
		next.what, next.hs.Commit = "a commit index", w.now.last()
		w.write(next, false, func() error { return w.log.Append(&next.hs, nil, false) })
	case 13, 14, 15, 16:
		w.apply()
	case 17, 18:
		w.flush()
	case 19, 20:
		w.cut()
	case 21:
		must(w.t, w.log.do(record{kind: kindSeal}, true))
		w.write(w.now, true, func() error { return nil }) // everything before is synced now
	case 22:
		w.install()
	case 23:
		w.reopen()
	case 24:
		w.empty()
	}
}

func (w *workload) append(at, n uint64) {
	next := w.now
	entries := run(at, at+n, w.term)
	for _, e := range entries {
		e.Data = append(e.Data, bytes.Repeat([]byte{byte(w.term)}, w.rng.IntN(1500))...)
	}
	next.what = fmt.Sprintf("append [%d, %d) of term %d", at, at+n, w.term)
	next.entries = append(next.upTo(at), entries...)
	next.hs.Term = w.term
	next.hs.Commit = min(next.hs.Commit, next.last())
	w.write(next, true, func() error { return w.log.Append(&next.hs, entries, true) })
}

// apply lets the state follow the synced entries, in one batch or several.
func (w *workload) apply() {
	w.mu.Lock()
	synced := w.model.versions[0].last()
	w.mu.Unlock()
	for w.applied < synced {
		to := min(synced, w.applied+1+w.rng.Uint64N(10))
		b := w.state.NewBatch()
		for i := w.applied + 1; i <= to; i++ {
			fillEffect(w.t, b, i)
		}
		must(w.t, w.state.Commit(b))
		must(w.t, b.Close())
		w.applied = to
	}
}

func (w *workload) flush() {
	applied := w.applied
	must(w.t, w.state.Flush())
	w.mu.Lock()
	defer w.mu.Unlock()
	w.model.flushed = applied
}

// cut cuts the log at what is durable in the state, or a little below.
func (w *workload) cut() {
	val, found, err := w.state.GetDurable(appliedKey)
	must(w.t, err)
	if !found {
		return
	}
	at := binary.BigEndian.Uint64(val)
	w.cutAt(at-min(at, w.rng.Uint64N(10)), w.log.Cut)
}

// empty cuts all that is there, as a member does that stops.
func (w *workload) empty() {
	w.write(w.now, true, func() error { return w.log.do(record{kind: kindSeal}, true) })
	w.apply()
	w.flush()
	w.cutAt(w.now.last(), w.log.CutAll)
}

func (w *workload) cutAt(at uint64, cut func(uint64) error) {
	if at <= w.now.mark.Index {
		return
	}
	next := w.now
	next.what = fmt.Sprintf("cut at %d", at)
	next.mark.Index, next.mark.Term = at, w.now.entries[at-w.now.mark.Index-1].GetTerm()
	next.entries = slices.Clone(w.now.entries[at-w.now.mark.Index:])
	w.write(next, false, func() error { return cut(at) })
}

// install builds the next generation somewhere above the applied index and puts it in place.
func (w *workload) install() {
	next := version{what: "install", mark: Mark{
		Index: w.applied + 1 + w.rng.Uint64N(50), Term: w.term, Generation: w.now.mark.Generation + 1,
	}}
	next.hs = HardState{Term: w.term, Commit: next.mark.Index}
	db := openCrashState(w.t, w.fs, next.mark.Generation)
	b := db.NewBatch()
	for i := uint64(1); i <= next.mark.Index; i++ {
		fillEffect(w.t, b, i)
	}
	must(w.t, db.Commit(b))
	must(w.t, b.Close())
	must(w.t, db.Close())
	must(w.t, storage.SyncDir(w.fs, storage.Root(crashRoot)))
	w.write(next, true, func() error { return w.log.Install(next.mark, next.hs, nil) })
	old := w.state
	w.state = openCrashState(w.t, w.fs, next.mark.Generation)
	w.mu.Lock()
	w.applied, w.model.flushed = next.mark.Index, next.mark.Index
	w.mu.Unlock()
	must(w.t, old.Close())
	must(w.t, storage.RemoveGeneration(w.fs, crashRoot, next.mark.Generation-1))
}

// reopen stops and starts cleanly.
func (w *workload) reopen() {
	w.close()
	w.log, w.state = openCrashLog(w.t, w.fs, w.model.ahead), openCrashState(w.t, w.fs, w.now.mark.Generation)
	compareLog(w.t, "a clean restart", w.log, []version{w.now})
}

func (w *workload) close() {
	w.flush()
	must(w.t, w.state.Close())
	w.write(w.now, true, w.log.Close)
}

var appliedKey = storage.AppendPlainKey(nil, storage.SpaceMeta, []byte("applied"))

// The effect of entry i on the state: a version of one of 17 keys, a history record, the deletion of an older
// record now and then, and the applied index. It depends on i alone.
func fillEffect(t testing.TB, b *storage.Batch, i uint64) {
	t.Helper()
	user := fmt.Appendf(nil, "key %d", i%17)
	err := errors.Join(
		b.Set(storage.AppendDataKey(nil, user, int64(i), 0), effectValue(i), nil),
		b.Set(storage.AppendRevKey(nil, storage.SpaceHistory, int64(i), 0), user, nil),
		b.Set(appliedKey, binary.BigEndian.AppendUint64(nil, i), nil),
	)
	if i > 20 && i%3 == 0 {
		err = errors.Join(err, b.Delete(storage.AppendRevKey(nil, storage.SpaceHistory, int64(i-20), 0), nil))
	}
	must(t, err)
}

func effectValue(i uint64) []byte { return bytes.Repeat(fmt.Appendf(nil, "%d,", i), int(i*31%400)) }

// verify opens what is left and compares it with what may be left.
func (r remainder) verify(t testing.TB) {
	t.Helper()
	for _, round := range []string{"", ", started twice"} {
		what := r.what + round
		l := openCrashLog(t, r.fs, r.ahead)
		v := compareLog(t, what, l, r.versions)
		db := openCrashState(t, r.fs, v.mark.Generation)
		applied := compareState(t, what, db)
		if applied < r.flushed || applied < v.mark.Index || applied > v.last() {
			t.Fatalf("%s: applied is %d, flushed was %d, the log is from %d to %d", what, applied, r.flushed, v.mark.Index, v.last())
		}
		must(t, db.Close())
		must(t, l.Close())
		r.versions = []version{v}
	}
	// A recovered log must take entries and give them back.
	l := openCrashLog(t, r.fs, r.ahead)
	next := r.versions[0]
	next.entries = append(slices.Clone(next.entries), run(next.last()+1, next.last()+4, 99)...)
	must(t, l.Append(nil, next.entries[len(next.entries)-3:], true))
	must(t, l.Close())
	l = openCrashLog(t, r.fs.CrashClone(vfs.CrashCloneCfg{}), r.ahead)
	compareLog(t, r.what+", appended to", l, []version{next})
	must(t, l.Close())
}

// compareLog returns the newest version that the log is.
func compareLog(t testing.TB, what string, l *Log, versions []version) version {
	t.Helper()
	must(t, l.Verify())
	got := version{mark: l.Mark(), hs: l.HardState()}
	if l.LastIndex() > got.mark.Index {
		var err error
		got.entries, err = l.Entries(l.FirstIndex(), l.LastIndex()+1, 1<<40)
		must(t, err)
	}
	for _, v := range slices.Backward(versions) {
		if v.mark == got.mark && v.hs == got.hs && slices.EqualFunc(v.entries, got.entries,
			func(a, b *raftpb.Entry) bool { return proto.Equal(a, b) }) {
			return v
		}
	}
	var may []string
	for _, v := range versions {
		may = append(may, fmt.Sprintf("%s: mark %+v, %+v, last %d", v.what, v.mark, v.hs, v.last()))
	}
	t.Fatalf("%s: the log has mark %+v, %+v, last %d; it may be\n%q", what, got.mark, got.hs, got.last(), may)
	return version{}
}

// compareState checks that the state is the effect of the entries up to its applied index, and returns that.
func compareState(t testing.TB, what string, db *storage.DB) uint64 {
	t.Helper()
	want := map[string]string{}
	var applied uint64
	if _, err := db.Get(appliedKey, func(val []byte) error { applied = binary.BigEndian.Uint64(val); return nil }); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	for i := uint64(1); i <= applied; i++ {
		user := fmt.Appendf(nil, "key %d", i%17)
		want[string(storage.AppendDataKey(nil, user, int64(i), 0))] = string(effectValue(i))
		want[string(storage.AppendRevKey(nil, storage.SpaceHistory, int64(i), 0))] = string(user)
		want[string(appliedKey)] = string(binary.BigEndian.AppendUint64(nil, i))
		if i > 20 && i%3 == 0 {
			delete(want, string(storage.AppendRevKey(nil, storage.SpaceHistory, int64(i-20), 0)))
		}
	}
	it, err := db.NewIter(nil)
	must(t, err)
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		if val, ok := want[string(it.Key())]; !ok || val != string(it.Value()) {
			t.Fatalf("%s: with %d applied, key %q is wrong", what, applied, it.Key())
		}
		n++
	}
	must(t, it.Close())
	if n != len(want) {
		t.Fatalf("%s: with %d applied, the state has %d keys and not %d", what, applied, n, len(want))
	}
	return applied
}
