package etcdfile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// large returns a value that lies in a record of its own.
func large(letter string) string { return strings.Repeat(letter, 5000) }

func largeKey(main int64) []byte { return storage.AppendRevKey(nil, storage.SpaceLarge, main, 0) }

// wholeVersions brings the versions of a state into the form of format 1.
func wholeVersions(t *testing.T, db *storage.DB) {
	t.Helper()
	lower, upper := storage.SpaceBounds(storage.SpaceData)
	it, err := db.NewIter(&storage.IterOptions{LowerBound: lower, UpperBound: upper})
	noError(t, err)
	b := db.NewBatch()
	var l mvcc.Loader
	for ok := it.First(); ok; ok = it.Next() {
		kv, _, err := l.Load(it)
		noError(t, err)
		noError(t, b.Set(it.Key(), kv.Raw(), nil))
	}
	lower, upper = storage.SpaceBounds(storage.SpaceLarge)
	noError(t, errors.Join(l.Close(), it.Close(), b.DeleteRange(lower, upper, nil), db.Commit(b), b.Close()))
}

// TestAFileHasLargeValuesWithTheirKeys: it is the same wherever the state keeps them, and a state built of it is whole.
func TestAFileHasLargeValuesWithTheirKeys(t *testing.T) {
	t.Parallel()
	s := newState(t)
	s.put(t, "a", large("a"), 0)
	s.put(t, "b", "small", 0)
	s.put(t, "a", large("b"), 0)
	s.delete(t, "a")
	files := [2][]byte{}
	for i := range files {
		c, err := Read(s.db)
		noError(t, err)
		if n, err := c.Verify(t.Context()); err != nil || n.Versions != 4 {
			t.Errorf("%d versions, %v", n.Versions, err)
		}
		path := filepath.Join(t.TempDir(), "db")
		_, err = c.Write(t.Context(), path)
		noError(t, errors.Join(err, c.Close()))
		files[i], err = os.ReadFile(path)
		noError(t, err)
		wholeVersions(t, s.db)
	}
	if !bytes.Contains(files[0], []byte(large("a"))) || !bytes.Equal(files[0], files[1]) {
		t.Error("the file is not what it is of a state of the older form")
	}
}

// TestVerifyFindsLargeValuesThatAreNotThoseOfTheirVersions: each is named, and nothing is exported but whole versions.
func TestVerifyFindsLargeValuesThatAreNotThoseOfTheirVersions(t *testing.T) {
	t.Parallel()
	at := func(key string, main int64) []byte { return storage.AppendDataKey(nil, []byte(key), main, 0) }
	for name, tt := range map[string]struct {
		change func(b *storage.Batch, value func(key []byte) []byte) error
		want   string
		spare  bool // a file has all that it must have
	}{
		"it is lost": {func(b *storage.Batch, _ func([]byte) []byte) error { return b.Delete(largeKey(3), nil) },
			"the large value of revision 3/0 is missing", false},
		"it is that of another": {func(b *storage.Batch, value func([]byte) []byte) error {
			return b.Set(largeKey(3), value(largeKey(2)), nil)
		},
			"the large value of revision 3/0 is that of another version", false},
		"its version is that of another": {func(b *storage.Batch, value func([]byte) []byte) error {
			return b.Set(at("a", 3), value(at("a", 2)), nil)
		},
			"is that of \"a\" at 2/0", false},
		"no version has it": {func(b *storage.Batch, value func([]byte) []byte) error {
			return b.Set(at("a", 3), value(largeKey(3)), nil)
		},
			"no version has the large value of revision 3/0", true},
		"it is of no version": {func(b *storage.Batch, value func([]byte) []byte) error {
			return b.Set(largeKey(9), value(largeKey(3)), nil)
		},
			"no version has the large value of revision 9/0", true},
		"it is no version": {func(b *storage.Batch, _ func([]byte) []byte) error { return b.Set(largeKey(9), []byte("?"), nil) },
			"is none", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newState(t)
			s.put(t, "a", large("a"), 0)
			s.put(t, "a", large("b"), 0)
			b := s.db.NewBatch()
			noError(t, tt.change(b, func(key []byte) (value []byte) {
				found, err := s.db.Get(key, func(v []byte) error { value = bytes.Clone(v); return nil })
				if !found || err != nil {
					t.Fatalf("%x: %v, %v", key, found, err)
				}
				return value
			}))
			noError(t, errors.Join(s.db.Commit(b), b.Close()))
			c, err := Read(s.db)
			noError(t, err)
			defer func() { noError(t, c.Close()) }()
			if _, err := c.Verify(t.Context()); !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("verifying: got %v, want %q", err, tt.want)
			}
			if _, err = c.Write(t.Context(), filepath.Join(t.TempDir(), "db")); errors.Is(err, storage.ErrCorrupt) == tt.spare {
				t.Errorf("writing: got %v", err)
			}
		})
	}
}
