package etcdfile

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// TestDamagedFilesAreErrors damages pages; whatever a reader makes of them, it must return.
func TestDamagedFilesAreErrors(t *testing.T) {
	t.Parallel()
	s := newState(t)
	for i := range 300 {
		s.put(t, fmt.Sprint("key", i), "value", 0)
	}
	good, err := os.ReadFile(s.export(t, false).path)
	noError(t, err)
	page := os.Getpagesize()
	damage := map[string]func([]byte) []byte{
		"empty":              func([]byte) []byte { return nil },
		"one page":           func(b []byte) []byte { return b[:page] },
		"half of it":         func(b []byte) []byte { return b[:len(b)/2/page*page] },
		"no meta pages":      func(b []byte) []byte { clear(b[:2*page]); return b },
		"zeroes after those": func(b []byte) []byte { clear(b[2*page:]); return b },
		"garbage after those": func(b []byte) []byte {
			r := rand.New(rand.NewPCG(1, 1))
			for i := 2 * page; i < len(b); i++ {
				b[i] = byte(r.Uint32())
			}
			return b
		},
		"a text": func([]byte) []byte { return bytes.Repeat([]byte("hello "), 4000) },
	}
	for name, change := range damage {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "db")
			noError(t, os.WriteFile(path, change(bytes.Clone(good)), 0o600))
			f, err := Open(path)
			if err != nil {
				return
			}
			_, merr := f.Meta()
			n := 0
			verr := f.Versions(t.Context(), 0, func(Revision, mvcc.KV) error { n++; return nil })
			if merr == nil && verr == nil && n == 300 {
				t.Error("nothing was found wrong")
			}
			if err := f.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}

func TestOpenRefusesWhatIsNoFile(t *testing.T) {
	t.Parallel()
	for _, path := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none")} {
		if f, err := Open(path); err == nil {
			t.Errorf("%s was opened", path)
			noError(t, f.Close())
		}
	}
}

func FuzzDecodeRevision(f *testing.F) {
	f.Add(appendRevision(nil, Revision{Main: 7, Sub: 1}))
	f.Add(appendRevision(nil, Revision{Main: 1 << 62, Tombstone: true}))
	f.Add([]byte("12345678_12345678x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRevision(b)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("got %v", err)
			}
			return
		}
		if again := appendRevision(nil, r); !bytes.Equal(again, b) {
			t.Errorf("%x decodes to %+v, which is %x", b, r, again)
		}
	})
}

func FuzzDecodeLease(f *testing.F) {
	add := func(l lease.Lease) { f.Add(encodeNumber(uint64(l.ID)), appendLease(nil, l)) }
	add(lease.Lease{ID: 4660, TTL: 1000})
	add(lease.Lease{ID: -1, TTL: 5, Remaining: 3})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		l, err := decodeLease(key, value)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("got %v", err)
			}
			return
		}
		again, err := decodeLease(encodeNumber(uint64(l.ID)), appendLease(nil, l))
		if err != nil || again != l {
			t.Errorf("%+v comes back as %+v, %v", l, again, err)
		}
	})
}

func FuzzDecodeAlarm(f *testing.F) {
	f.Add(encodeAlarm(77, 1))
	f.Add(encodeAlarm(1<<63, 1<<31))
	f.Fuzz(func(t *testing.T, key []byte) {
		a, err := decodeAlarm(key)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("got %v", err)
			}
			return
		}
		again, err := decodeAlarm(encodeAlarm(uint64(a.Member), uint32(a.Type)))
		if err != nil || again != a {
			t.Errorf("%+v comes back as %+v, %v", a, again, err)
		}
	})
}

func FuzzDecodeMemberName(f *testing.F) {
	f.Add([]byte("41b2008c1d8b631b"))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := decodeMemberName(b)
		if err != nil {
			return
		}
		if again, err := decodeMemberName(memberName(uint64(id))); err != nil || again != id {
			t.Errorf("%s comes back as %s, %v", id, again, err)
		}
		_ = cluster.ID(id)
	})
}
