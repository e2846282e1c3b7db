package mvcc

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

func TestAStreamMayBringNoStub(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	b := s.db.NewBatch()
	defer b.Close()
	st := stub{fields: fields{key: []byte("a"), create: 2, mod: 2, version: 1}, size: 5000}
	if err := StoreVersion(b, storage.AppendDataKey(nil, []byte("a"), 2, 0), st.append(nil)); err == nil || !b.Empty() {
		t.Errorf("the stub of a value that is not there is taken: %v", err)
	}
}

func FuzzParseStub(f *testing.F) {
	value := bytes.Repeat([]byte("v"), largeMin)
	for _, x := range []fields{
		{key: []byte("key"), create: 1, mod: 2, version: 3, value: value, lease: -4},
		{key: []byte("k"), create: 1, mod: 1, version: 1, value: value},
	} {
		raw := x.append(nil)
		s, ok := stubOf(x.key, Revision{x.mod, 7}, raw)
		if !ok || !s.of(raw) {
			f.Fatalf("%+v has no stub", x)
		}
		f.Add(s.append(nil))
	}
	f.Add([]byte{stubMark})
	f.Add([]byte{stubMark, 0x80, 0x20, 0x80, 0, tagKey, 1, 'k'})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := record{b}
		r.size()
		r.appendWithoutValue(nil, true)
		headOf(r, Revision{Main: 1})
		s, err := parseStub(b)
		if err != nil {
			return
		}
		if again := s.append(nil); !bytes.Equal(again, b) || s.encodedSize() != len(again) {
			t.Fatalf("%x becomes %x", b, again)
		}
		if _, err := ParseKV(b); err == nil {
			t.Fatalf("%x is a stub and a KeyValue", b)
		}
		if s.of(b) {
			t.Fatalf("%x is a stub of itself", b)
		}
	})
}

// TestAStubUnderAnotherKeyIsRefused: it names a record that is there and is the version that it says, but it is not what was asked for.
func TestAStubUnderAnotherKeyIsRefused(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(stub *stub){
		"of another key":          func(s *stub) { s.key = []byte("a") },
		"of an older revision":    func(s *stub) { s.mod = 3 },
		"of another sub-revision": func(s *stub) { s.sub = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, done := openStore(t, vfs.NewMem(), smallRuns)
			defer done()
			put(t, s, "a", large("a"), "b", large("b"), "b", large("c"))
			change(t, s, func(b *storage.Batch) error {
				other, err := parseStub(stored(t, s, "b", Revision{Main: 4}).stored)
				damage(&other)
				whole := other.fields
				whole.value = []byte(large("c"))
				named := storage.AppendRevKey(nil, storage.SpaceLarge, other.mod, other.sub)
				return errors.Join(err, b.Set(storage.AppendDataKey(nil, []byte("b"), 4, 0), other.append(nil), nil), b.Set(named, whole.append(nil), nil))
			})
			for name, read := range reads {
				if name == "a version" || name == "at an older revision" || name == "history" || name == "a count" {
					continue // they come to another version first, or look at none
				}
				v, err := s.View(0)
				if err != nil {
					t.Fatal(err)
				}
				err = read.run(s, v, func(kv KV) error { return nil })
				if !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), `data of "b" at`) || !strings.Contains(err.Error(), storage.Remedy) {
					t.Errorf("%s: %v, want an error that names the record and says what to do", name, err)
				}
				if err := v.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestVersionsAreRefusedUnderOtherRevisions(t *testing.T) {
	t.Parallel()
	s, done := openStore(t, vfs.NewMem(), smallRuns)
	defer done()
	put(t, s, "b", large("b"), "b", large("c"), "b", large("d"))
	change(t, s, func(b *storage.Batch) error {
		_, err := s.db.Get(storage.AppendDataKey(nil, []byte("b"), 4, 0), func(v []byte) error {
			return b.Set(storage.AppendDataKey(nil, []byte("b"), 3, 0), v, nil)
		})
		return err
	})
	for name, reverse := range map[string]bool{"a version": false, "versions in turn": true} {
		v, err := s.View(0)
		if err != nil {
			t.Fatal(err)
		}
		if reverse {
			r := v.Versions()
			if _, found, err := r.At([]byte("b"), Revision{Main: 4}); err != nil || !found {
				t.Errorf("the version that is right: %v, %v", found, err)
			}
			_, _, err = r.At([]byte("b"), Revision{Main: 3})
		} else {
			_, _, err = v.At([]byte("b"), Revision{Main: 3})
		}
		if !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
