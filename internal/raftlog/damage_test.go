package raftlog

import (
	"errors"
	"strings"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/storage"
	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestADamagedLogIsRefusedWithItsDirectoryAndWhatIsWrong(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		damage func(b *storage.Batch) error
		says   string
		is     error
	}{
		"a missing identity":           {func(b *storage.Batch) error { return b.Delete(keyIdentity, nil) }, "key 01 is missing", storage.ErrCorrupt},
		"a missing hard state":         {func(b *storage.Batch) error { return b.Delete(keyHardState, nil) }, "key 02 is missing", storage.ErrCorrupt},
		"a missing mark":               {func(b *storage.Batch) error { return b.Delete(keyMark, nil) }, "key 03 is missing", storage.ErrCorrupt},
		"a missing last index":         {func(b *storage.Batch) error { return b.Delete(keyLast, nil) }, "key 04 is missing", storage.ErrCorrupt},
		"a missing first entry":        {func(b *storage.Batch) error { return b.Delete(entryKey(1), nil) }, "the first entry is 2", storage.ErrCorrupt},
		"a missing last entry":         {func(b *storage.Batch) error { return b.Delete(entryKey(9), nil) }, "the last entry is 8", storage.ErrCorrupt},
		"no entry at all":              {func(b *storage.Batch) error { return b.DeleteRange(entryKey(0), entriesEnd, nil) }, "the first entry 1 is missing", storage.ErrCorrupt},
		"an entry above the last":      {func(b *storage.Batch) error { return b.Set(entryKey(10), []byte{1, 0}, nil) }, "the last entry is 10", storage.ErrCorrupt},
		"an entry of the mark":         {func(b *storage.Batch) error { return b.Set(entryKey(0), []byte{1, 0}, nil) }, "the first entry is 0", storage.ErrCorrupt},
		"an unreadable entry":          {func(b *storage.Batch) error { return b.Set(entryKey(9), []byte{0x80}, nil) }, "entry 9", storage.ErrCorrupt},
		"an entry of an unknown type":  {func(b *storage.Batch) error { return b.Set(entryKey(9), []byte{1, 7}, nil) }, "entry 9", storage.ErrCorrupt},
		"a mark above the last":        {func(b *storage.Batch) error { return b.Set(keyMark, Mark{Index: 20}.encode(), nil) }, "below the mark", storage.ErrCorrupt},
		"a commit above the last":      {func(b *storage.Batch) error { return b.Set(keyHardState, HardState{1, 0, 10}.encode(), nil) }, "commit index 10", storage.ErrCorrupt},
		"an unreadable hard state":     {func(b *storage.Batch) error { return b.Set(keyHardState, []byte{1, 2, 3, 4}, nil) }, "key 02", storage.ErrCorrupt},
		"an unknown small record":      {func(b *storage.Batch) error { return b.Set([]byte{5}, nil, nil) }, "key 05", storage.ErrCorrupt},
		"a long key below the entries": {func(b *storage.Batch) error { return b.Set([]byte{2, 0}, nil, nil) }, "key 0200", storage.ErrCorrupt},
		"a key above the entries":      {func(b *storage.Batch) error { return b.Set([]byte{0x20}, nil, nil) }, "key 20", storage.ErrCorrupt},
		"a newer format": {func(b *storage.Batch) error {
			id := testIdentity
			id.Format++
			return b.Set(keyIdentity, id.Encode(), nil)
		}, "format version 2", storage.ErrNewerFormat},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewMem()
			l := bootstrapped(t, fs, 9, Options{})
			b := l.db.NewBatch()
			must(t, c.damage(b))
			must(t, l.db.Commit(b, true))
			must(t, b.Close())
			must(t, l.Close())
			_, err := tryOpen(fs)
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), testDir) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v", err)
			}
			if c.is == storage.ErrCorrupt && !strings.Contains(err.Error(), storage.Remedy) {
				t.Fatalf("no advice in: %v", err)
			}
		})
	}
}

func TestAGapInsideIsFoundByVerifyAndByReading(t *testing.T) {
	t.Parallel()
	l := bootstrapped(t, vfs.NewMem(), 9, Options{TailBytes: 1})
	b := l.db.NewBatch()
	must(t, b.Delete(entryKey(5), nil))
	must(t, l.db.Commit(b, true))
	must(t, b.Close())
	_, readErr := l.Entries(2, 9, 1<<20)
	_, termErr := l.Term(5)
	for what, err := range map[string]error{"Verify": l.Verify(), "Entries": readErr, "Term": termErr, "Cut": l.Cut(5)} {
		if !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), "5") {
			t.Errorf("%s: %v", what, err)
		}
	}
	must(t, l.Close())
}
