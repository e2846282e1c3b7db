package mvcc

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// smallRuns makes tests of a few keys meet cuts, joins, several chunks and corrections by many changes.
var smallRuns = runSizes{max: 6, target: 3, chunk: 4, piece: 4, corrected: 2}

// openStore opens a store on fs, which the test closes by the returned function.
func openStore(t testing.TB, fs vfs.FS, sizes runSizes) (*Store, func()) {
	t.Helper()
	db, err := storage.OpenState("state", storage.Options{FS: fs})
	if err != nil {
		t.Fatalf("opening the database: %v", err)
	}
	s, err := open(db, sizes)
	if err != nil {
		t.Fatalf("opening the store: %v", err)
	}
	s.KeepIterators(func(func()) {}) // as long as their state is the published one
	return s, func() {
		s.idle.end()
		if err := db.Close(); err != nil {
			t.Fatalf("closing the database: %v", err)
		}
	}
}

// newStore opens an empty store that is checked and closed when the test ends.
func newStore(t testing.TB) *Store {
	t.Helper()
	s, done := openStore(t, vfs.NewMem(), smallRuns)
	t.Cleanup(func() {
		checkStore(t, s)
		done()
	})
	return s
}

// entry writes one group of one entry.
func entry(t testing.TB, s *Store, fn func(w *Writer)) (rev int64, changed bool) {
	t.Helper()
	w := s.NewWriter()
	w.Begin()
	fn(w)
	rev, changed = w.End()
	if err := w.Commit(); err != nil {
		t.Fatalf("committing: %v", err)
	}
	return rev, changed
}

// put puts pairs of keys and values, each in an entry of its own.
func put(t testing.TB, s *Store, pairs ...string) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		entry(t, s, func(w *Writer) {
			if _, _, err := w.Put([]byte(pairs[i]), []byte(pairs[i+1]), 0); err != nil {
				t.Fatalf("putting %q: %v", pairs[i], err)
			}
		})
	}
}

// del deletes a range in an entry of its own; an empty end means the key alone.
func del(t testing.TB, s *Store, key, end string) {
	t.Helper()
	entry(t, s, func(w *Writer) {
		if _, err := w.DeleteRange([]byte(key), []byte(end), nil); err != nil {
			t.Fatalf("deleting [%q, %q): %v", key, end, err)
		}
	})
}

// compact compacts to rev, all of it.
func compact(t testing.TB, s *Store, rev int64) {
	t.Helper()
	entry(t, s, func(w *Writer) {
		if err := w.ScheduleCompact(rev); err != nil {
			t.Fatalf("scheduling: %v", err)
		}
	})
	for done := false; !done; {
		var err error
		if done, err = s.CompactStep(context.Background(), 1000); err != nil {
			t.Fatalf("compacting: %v", err)
		}
	}
}

// rangeText reads a range and prints it: key=value@create/mod/version(lease), then count and more.
func rangeText(r Reader, o RangeOptions) (string, error) {
	var b bytes.Buffer
	res, err := r.Range(o, func(kv KV) error {
		b.WriteString(kvText(kv) + " ")
		return nil
	})
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&b, "count %d", res.Count)
	if res.More {
		b.WriteString(" more")
	}
	return b.String(), nil
}

func kvText(kv KV) string {
	text := fmt.Sprintf("%s=%s@%d/%d/%d", kv.Key(), kv.Value(), kv.CreateRevision(), kv.ModRevision(), kv.Version())
	if kv.Lease() != 0 {
		text += fmt.Sprintf("(%d)", kv.Lease())
	}
	return text
}

// read is rangeText on a view at the current revision.
func read(t testing.TB, s *Store, o RangeOptions) string {
	t.Helper()
	v, err := s.View(0)
	if err != nil {
		t.Fatalf("opening a view: %v", err)
	}
	defer v.Close()
	text, err := rangeText(v, o)
	if err != nil {
		t.Fatalf("reading %+v: %v", o, err)
	}
	return text
}

// checkStore checks what must always hold of a store's records: history and data hold the same versions, values parse
// in canonical form and agree with their keys, each large value has its stub, the runs count what lives, on disk as in memory.
func checkStore(t testing.TB, s *Store) {
	t.Helper()
	v, err := s.View(0)
	if err != nil {
		t.Fatalf("opening a view: %v", err)
	}
	defer v.Close()
	data, large := map[Revision]string{}, map[Revision]bool{}
	v.snap.bound(nil, fromKeyOn)
	for ok := v.snap.it.First(); ok; ok = v.snap.it.Next() {
		user, main, sub, good := storage.DecodeDataKey(v.snap.it.Key())
		if !good {
			t.Fatalf("data key %x", v.snap.it.Key())
		}
		if r := (record{v.snap.it.Value()}); r.live() {
			kv, err := v.snap.whole(r, false)
			if err == nil {
				kv, err = ParseKV(bytes.Clone(kv.Raw()))
			}
			if err != nil || !bytes.Equal(kv.Key(), user) || kv.ModRevision() != main || r.size() != len(kv.Raw()) {
				t.Fatalf("value %x under %q at %d: %v", r.stored, user, main, err)
			}
			if r.isStub() {
				large[Revision{main, sub}] = true
			}
		}
		data[Revision{main, sub}] = string(user)
	}
	h, err := v.snap.walkHistory(Revision{}, maxRevision-1)
	if err != nil {
		t.Fatal(err)
	}
	for h.next() {
		if key, ok := data[h.rev]; !ok || key != string(h.key) {
			t.Fatalf("history has %q at %v, data %q", h.key, h.rev, key)
		}
		delete(data, h.rev)
	}
	if err := h.close(); err != nil || len(data) != 0 {
		t.Fatalf("data without history: %v (%v)", data, err)
	}
	checkLarge(t, v, large)
	checkRuns(t, s, v)
}

// checkLarge checks that there are these large values and no other.
func checkLarge(t testing.TB, v *View, want map[Revision]bool) {
	t.Helper()
	it, err := v.snap.clone(largeLower, largeUpper)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		main, sub, good := storage.DecodeRevKey(it.Key())
		if !good || !want[Revision{main, sub}] {
			t.Fatalf("the large value %x is no version's", it.Key())
		}
		n++
	}
	if n != len(want) {
		t.Fatalf("there are %d large values, the versions have %d", n, len(want))
	}
}

func checkRuns(t testing.TB, s *Store, v *View) {
	t.Helper()
	list := v.snap.now.runs
	var inMemory []run
	for _, c := range list.chunks {
		inMemory = append(inMemory, c.runs...)
	}
	total := int64(0)
	for i, r := range inMemory {
		end := fromKeyOn
		if i+1 < len(inMemory) {
			end = inMemory[i+1].first
		}
		n, err := v.snap.count(r.first, end, v.Current())
		if err != nil || n != r.live {
			t.Fatalf("run %q to %q has %d live keys, not %d (%v)", r.first, end, n, r.live, err)
		}
		total += n
	}
	if total != list.live {
		t.Fatalf("the list says %d live keys, its runs %d", list.live, total)
	}
	stored, err := loadRuns(s.db, list.sizes)
	if err != nil {
		t.Fatal(err)
	}
	var onDisk []run
	for _, c := range stored.chunks {
		onDisk = append(onDisk, c.runs...)
	}
	if !slices.EqualFunc(inMemory, onDisk, func(a, b run) bool {
		return bytes.Equal(a.first, b.first) && a.live == b.live
	}) {
		t.Fatalf("runs in memory %v, on disk %v", inMemory, onDisk)
	}
}
