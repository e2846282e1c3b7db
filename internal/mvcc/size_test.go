package mvcc

import (
	"context"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// checkSize checks that the size kept is that of all versions found. TestStoreBehavesLikeTheModel calls it between slices
// of compaction, after reopening and after crashes.
func checkSize(t testing.TB, s *Store) {
	t.Helper()
	v, err := s.View(0)
	if err != nil {
		t.Fatalf("opening a view: %v", err)
	}
	defer v.Close()
	found := int64(0)
	v.snap.bound(nil, fromKeyOn)
	for ok := v.snap.it.First(); ok; ok = v.snap.it.Next() {
		user, _, _, _ := storage.DecodeDataKey(v.snap.it.Key())
		found += versionBytes(user, record{v.snap.it.Value()}.size())
	}
	if got := s.SizeInUse(); got != found {
		t.Fatalf("the size in use is %d, the versions have %d", got, found)
	}
}

// A slice that begins at a whole revision again and ends within it must not subtract twice.
func TestSizeOfARevisionCompactedInManySlices(t *testing.T) {
	t.Parallel()
	for _, reopen := range []bool{false, true} {
		t.Run(fmt.Sprintf("reopened after each slice: %v", reopen), func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewMem()
			db, s := openSized(t, fs)
			defer func() { _ = db.Close() }()
			index := uint64(0)
			group := func(write func(w *Writer)) {
				w := s.NewWriter()
				w.Begin()
				write(w)
				w.End()
				index++
				w.SetApplied(index, 1)
				if err := w.Commit(); err != nil {
					t.Fatal(err)
				}
				checkSize(t, s)
			}
			for range 2 {
				group(func(w *Writer) {
					for i := range 40 {
						if err := w.PutBlind(fmt.Appendf(nil, "k%02d", i), []byte("value"), 0); err != nil {
							t.Fatal(err)
						}
					}
				})
			}
			group(func(w *Writer) {
				if _, err := w.DeleteRange([]byte("k"), []byte("l"), nil); err != nil {
					t.Fatal(err)
				}
			})
			for rev := s.Revision() - 1; rev <= s.Revision()+1; rev++ {
				if rev > s.Revision() {
					group(func(w *Writer) { _ = w.PutBlind([]byte("last"), nil, 0) })
				}
				group(func(w *Writer) {
					if err := w.ScheduleCompact(rev); err != nil {
						t.Fatal(err)
					}
				})
				for n := 0; s.CompactPending(); n++ {
					// Every slice but those after a reopening makes progress.
					size := 7
					if reopen && n%2 == 1 {
						size = 50 * (n + 1)
					}
					if _, err := s.CompactStep(context.Background(), size); err != nil {
						t.Fatal(err)
					}
					checkSize(t, s)
					if reopen {
						if err := db.Close(); err != nil {
							t.Fatal(err)
						}
						db, s = openSized(t, fs)
						checkSize(t, s)
					}
				}
				if rev > 5 {
					break
				}
			}
			if got, want := s.SizeInUse(), versionBytes([]byte("last"), len(fieldsOf("last", s.Revision()))); got != want {
				t.Errorf("the size in use at the end is %d, want %d", got, want)
			}
		})
	}
}

func fieldsOf(key string, rev int64) []byte {
	f := fields{key: []byte(key), create: rev, mod: rev, version: 1}
	return f.append(nil)
}

func openSized(t *testing.T, fs vfs.FS) (*storage.DB, *Store) {
	t.Helper()
	db, err := storage.OpenState("state", storage.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(db)
	if err != nil {
		t.Fatal(err)
	}
	return db, s
}

func TestVersionBytesBoundsWhatAPutTakes(t *testing.T) {
	t.Parallel()
	for _, n := range [][2]int{{1, 0}, {1, 1}, {127, 128}, {128, 127}, {500, 100_000}, {100_000, 0}} {
		f := fields{
			key: make([]byte, n[0]), value: make([]byte, n[1]),
			create: maxRevision, mod: maxRevision, version: maxRevision, lease: -1,
		}
		if got, bound := versionBytes(f.key, f.size()), VersionBytes(n[0], n[1]); got > bound || got < bound-64 {
			t.Errorf("a key of %d and a value of %d bytes take %d, the bound is %d", n[0], n[1], got, bound)
		}
	}
}
