package storage

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestLargeValuesLieInTablesOfTheirOwn: what is flushed and compacted with them is not written again when they are not, and not they with it.
func TestLargeValuesLieInTablesOfTheirOwn(t *testing.T) {
	t.Parallel()
	db, err := OpenState("state", Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	value := make([]byte, 100<<10)
	rand.NewChaCha8([32]byte{}).Read(value) // it never fails
	for rev := range int64(200) {
		b := db.NewBatch()
		for key, value := range map[string][]byte{
			string(AppendDataKey(nil, []byte("k"), rev+1, 0)):              []byte("stub"),
			string(AppendRevKey(nil, SpaceLarge, rev+1, 0)):                value,
			string(AppendRevKey(nil, SpaceHistory, rev+1, 0)):              []byte("history"),
			string(AppendPlainKey(nil, SpaceMeta, []byte("applied"))):      []byte("meta"),
			string(AppendPlainKey(nil, SpaceRuns, []byte{byte(rev), 'r'})): []byte("run"),
		} {
			if err := b.Set([]byte(key), value, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Commit(b); err != nil {
			t.Fatal(err)
		}
		if rev%50 == 49 {
			if err := db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := db.CompactAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	levels, err := db.p.SSTables()
	if err != nil {
		t.Fatal(err)
	}
	large, others := 0, 0
	for _, tables := range levels {
		for _, table := range tables {
			first, last := table.Smallest.UserKey[0], table.Largest.UserKey[0]
			switch {
			case first == SpaceLarge && last == SpaceLarge:
				large++
			case first < SpaceLarge && last < SpaceLarge || first > SpaceLarge:
				others++
			default:
				t.Errorf("a table has keys from %c to %c", first, last)
			}
		}
	}
	if large < 4 || others < 2 {
		t.Errorf("%d tables of large values, %d others", large, others)
	}
}

// TestManyTablesOfLargeValuesCompactNothing: they lie on no others, so however many are flushed, what lies beside them is not compacted for them.
func TestManyTablesOfLargeValuesCompactNothing(t *testing.T) {
	t.Parallel()
	db, err := OpenState("state", Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const small, large = 2, 600
	for rev := range int64(small + large) {
		key := AppendRevKey(nil, SpaceLarge, rev+1, 0)
		if rev < small {
			key = AppendDataKey(nil, []byte("k"), rev+1, 0)
		}
		b := db.NewBatch()
		if err := b.Set(key, []byte("value"), nil); err != nil {
			t.Fatal(err)
		}
		if err := db.Commit(b); err != nil {
			t.Fatal(err)
		}
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if m := db.Metrics(); m.Compactions != 0 || m.CompactionsRunning != 0 || m.Levels[0].Tables != small+large {
		t.Errorf("%d compactions ended and %d run; of %d tables %d are where they were flushed to",
			m.Compactions, m.CompactionsRunning, small+large, m.Levels[0].Tables)
	}
}

// TestTheLowestLevelIsCompressedWhereThatHelps: what does not become smaller is written as it is, index and all.
func TestTheLowestLevelIsCompressedWhereThatHelps(t *testing.T) {
	t.Parallel()
	random := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(random) // it never fails
	for name, c := range map[string]struct {
		values   []byte
		min, max float64 // of their length
	}{
		"text":   {bytes.Repeat([]byte(`{"kind":"Pod"}`), 1<<20/14), 0, 0.3},
		"random": {random, 1, 1.1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, err := OpenState("state", Options{FS: vfs.NewMem()})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			values := slices.Collect(slices.Chunk(c.values, 1<<10))
			for first := range 2 { // tables that lie on one another are merged, others moved as they are
				b := db.NewBatch()
				for i := first; i < len(values); i += 2 {
					if err := b.Set(AppendDataKey(nil, []byte("k"), int64(i+1), 0), values[i], nil); err != nil {
						t.Fatal(err)
					}
				}
				if err := db.Commit(b); err != nil {
					t.Fatal(err)
				}
				if err := db.Flush(); err != nil {
					t.Fatal(err)
				}
			}
			if err := db.CompactAll(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := float64(db.Metrics().LiveBytes) / float64(len(c.values))
			if got < c.min || got > c.max {
				t.Errorf("tables have %.2f times the bytes of the values, want %v to %v", got, c.min, c.max)
			}
		})
	}
}
