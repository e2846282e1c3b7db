package lease

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// lab is a table on a state in memory.
type lab struct {
	testing.TB
	fs    vfs.FS
	db    *storage.DB
	table *Table
	seen  []string // what was observed
}

func newLab(t testing.TB) *lab { return newLabOn(t, vfs.NewMem()) }

func newLabOn(t testing.TB, fs vfs.FS) *lab {
	l := &lab{TB: t, fs: fs}
	l.open()
	t.Cleanup(func() { l.check(l.db.Close()) })
	return l
}

func (l *lab) check(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

func (l *lab) open() {
	l.Helper()
	var err error
	l.db, err = storage.OpenState("state", storage.Options{
		FS: l.fs, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Fatal: func(err error) { l.Error(err) },
	})
	l.check(err)
	l.table, err = Load(l.db)
	l.check(err)
	l.table.Observe(func(c Changed) { l.seen = append(l.seen, c.text()) })
}

func (l *lab) reopen() {
	l.Helper()
	l.check(l.db.Close())
	l.open()
}

func (c Changed) text() string {
	return strings.TrimSpace(fmt.Sprintf("granted %v revoked %v checkpointed %v", c.Granted, c.Revoked, c.Checkpointed))
}

// group runs one group of entries; it is dropped when keep is false.
func (l *lab) group(keep bool, fn func(c *Change)) {
	l.Helper()
	b := l.db.NewBatch()
	c := l.table.Begin(b)
	fn(c)
	if keep {
		l.check(l.db.Commit(b))
		c.Publish()
	}
	l.check(c.Close())
	l.check(b.Close())
}

// keys are those of the lease, from the group and in words.
func (l *lab) keys(c *Change, id int64) string {
	l.Helper()
	keys, err := c.Keys(id)
	l.check(err)
	l.walk(keys, func(from []byte) ([]byte, bool, error) { return c.First(id, from) })
	return join(keys)
}

// walk finds keys one after the other by First.
func (l *lab) walk(keys [][]byte, first func(from []byte) ([]byte, bool, error)) {
	l.Helper()
	from := []byte{}
	for _, want := range keys {
		got, ok, err := first(from)
		l.check(err)
		if !ok || !bytes.Equal(got, want) {
			l.Errorf("the first key from %q on is %q, %t; want %q", from, got, ok, want)
		}
		if again, _, err := first(got); err != nil || !bytes.Equal(again, want) {
			l.Errorf("the first key from %q on is %q, %v", got, again, err)
		}
		from = append(got, 0)
	}
	if got, ok, err := first(from); ok || err != nil {
		l.Errorf("behind the last key is %q, %v", got, err)
	}
}

func join(keys [][]byte) string {
	var out []string
	for _, k := range keys {
		out = append(out, string(k))
	}
	return strings.Join(out, " ")
}

// text says what readers see.
func (l *lab) text() string {
	l.Helper()
	s := ""
	for x := range l.table.All {
		keys, err := l.table.Keys(l.db, x.ID)
		l.check(err)
		l.walk(keys, func(from []byte) ([]byte, bool, error) { return l.table.First(l.db, x.ID, from) })
		if n := l.table.KeyCount(x.ID); n != int64(len(keys)) {
			l.Errorf("lease %d has %d keys and counts %d", x.ID, len(keys), n)
		}
		size := 0
		for _, k := range keys {
			size += len(k)
		}
		if n := l.table.KeyBytes(x.ID); n != int64(size) {
			l.Errorf("lease %d has keys of %d bytes and counts %d", x.ID, size, n)
		}
		s += fmt.Sprintf("%d:%d/%d[%s] ", x.ID, x.Remaining, x.TTL, join(keys))
	}
	return strings.TrimSpace(s)
}

func (l *lab) want(text string) {
	l.Helper()
	if got := l.text(); got != text {
		l.Errorf("the leases are\n%s, want\n%s", got, text)
	}
}

func TestGrantsAreRefusedAsInEtcd(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, s := range []struct {
		name    string
		id, ttl int64
		err     error
		want    int64
	}{
		{"a lease", 1, 100, nil, 100},
		{"the same once more", 1, 100, ErrExists, 100},
		{"a taken id with too large a time: the time is told", 1, MaxTTL + 1, ErrTTLTooLarge, 100},
		{"no id", 0, 100, ErrNotFound, 0},
		{"no id and too large a time", 0, MaxTTL + 1, ErrNotFound, 0},
		{"no time", 2, 0, nil, MinTTL},
		{"a negative time", 3, math.MinInt64, nil, MinTTL},
		{"the smallest time", 4, MinTTL, nil, MinTTL},
		{"the largest time", 5, MaxTTL, nil, MaxTTL},
		{"one second more", 6, MaxTTL + 1, ErrTTLTooLarge, 0},
		{"the largest id", math.MaxInt64, 9, nil, 9},
		{"the smallest id", math.MinInt64, 9, nil, 9},
		{"a negative id", -1, 9, nil, 9},
	} {
		l.group(true, func(c *Change) {
			if err := c.Grant(s.id, s.ttl); !errors.Is(err, s.err) {
				t.Errorf("%s: %v, want %v", s.name, err, s.err)
			}
			if x, ok := c.Get(s.id); x.TTL != s.want || ok != (s.want != 0) {
				t.Errorf("%s: %+v %t", s.name, x, ok)
			}
		})
	}
	want := "-9223372036854775808:0/9[] -1:0/9[] 1:0/100[] 2:0/2[] 3:0/2[] 4:0/2[] 5:0/9000000000[] 9223372036854775807:0/9[]"
	l.want(want)
	if l.table.Len() != 8 {
		t.Errorf("%d leases", l.table.Len())
	}
	l.reopen()
	l.want(want)
}

func TestKeysStayWithTheirLease(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	// The ids are neighbours in the order of the keys on disk, at both ends of it.
	ids := []int64{1, 2, -2, -1, math.MaxInt64, math.MinInt64}
	l.group(true, func(c *Change) {
		for _, id := range ids {
			l.check(c.Grant(id, 10))
			for _, key := range []string{"b", "a\x00", "a", "\x00", "\xff\xff"} {
				l.check(c.Attach(id, []byte(key)))
			}
		}
	})
	const all = "\x00 a a\x00 b \xff\xff"
	l.group(false, func(c *Change) {
		for _, id := range ids {
			if got := l.keys(c, id); got != all {
				t.Errorf("%d: %q", id, got)
			}
		}
		if got := l.keys(c, 3); got != "" {
			t.Errorf("a lease that is not there has %q", got)
		}
	})
	l.reopen()
	for _, id := range ids {
		keys, err := l.table.Keys(l.db, id)
		if l.check(err); join(keys) != all || l.table.KeyCount(id) != 5 {
			t.Errorf("%d: %q, %d", id, keys, l.table.KeyCount(id))
		}
	}
}

func TestAGroupSeesItselfAndReadersOnlyWhatIsPublished(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.group(true, func(c *Change) {
		l.check(errors.Join(c.Grant(1, 10), c.Attach(1, []byte("b")), c.Attach(1, []byte("d")), c.Grant(2, 20)))
	})
	before := "1:0/10[b d] 2:0/20[]"
	l.want(before)
	change := func(c *Change) {
		l.check(errors.Join(
			c.Attach(1, []byte("c")), c.Attach(1, []byte("a")),
			c.Detach(1, []byte("b")), c.Detach(1, []byte("c")), c.Attach(2, []byte("c")),
			c.Detach(1, []byte("d")), c.Attach(1, []byte("d")), // goes and comes back
			c.Checkpoint(1, 7), c.Checkpoint(3, 7), c.Grant(4, 40), c.Checkpoint(4, -5),
		))
		if got := l.keys(c, 1); got != "a d" {
			t.Errorf("the group sees %q", got)
		}
		if got := l.keys(c, 2); got != "c" {
			t.Errorf("the group sees %q", got)
		}
		l.want(before)
	}
	l.group(false, change)
	l.want(before)
	l.group(true, change)
	l.want("1:7/10[a d] 2:0/20[c] 4:0/40[]")
	l.reopen()
	l.want("1:7/10[a d] 2:0/20[c] 4:0/40[]")
}

func TestAnIdMayBeUsedAgain(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.group(true, func(c *Change) { l.check(errors.Join(c.Grant(1, 10), c.Attach(1, []byte("a")), c.Checkpoint(1, 3))) })
	l.group(true, func(c *Change) {
		l.check(errors.Join(c.Revoke(1), c.Detach(1, []byte("a"))))
		if c.Exists(1) || !errors.Is(c.Revoke(1), ErrNotFound) {
			t.Error("it is there after it was revoked")
		}
		l.check(errors.Join(c.Grant(1, 20), c.Attach(1, []byte("b"))))
		if got := l.keys(c, 1); got != "b" {
			t.Errorf("the group sees %q", got)
		}
	})
	l.want("1:0/20[b]")
	l.group(true, func(c *Change) { l.check(errors.Join(c.Revoke(1), c.Detach(1, []byte("b")))) })
	l.group(true, func(c *Change) { l.check(errors.Join(c.Grant(1, 5), c.Revoke(1))) })
	l.want("")
	l.reopen()
	l.want("")
}

// A key that was taken over from etcd may name a lease that was gone: it hangs on none.
func TestAKeyThatHangsNowhereIsTakenOffNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.group(true, func(c *Change) { l.check(c.Detach(1, []byte("lost"))) })
	l.want("")
	l.group(true, func(c *Change) { l.check(errors.Join(c.Grant(1, 10), c.Detach(1, []byte("lost")))) })
	l.want("1:0/10[]")
	l.group(true, func(c *Change) { l.check(errors.Join(c.Attach(1, []byte("a")), c.Detach(1, []byte("lost")))) })
	l.want("1:0/10[a]")
	l.group(true, func(c *Change) {
		if got := l.keys(c, 1); got != "a" {
			t.Errorf("the group sees %q", got)
		}
		l.check(errors.Join(c.Revoke(1), c.Detach(1, []byte("a")), c.Detach(1, []byte("lost"))))
	})
	l.want("")
	l.reopen()
	l.want("")
}

func TestTheObserverIsToldWhatAGroupMeant(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.group(true, func(c *Change) { l.check(errors.Join(c.Grant(2, 20), c.Grant(1, 10), c.Checkpoint(1, 4))) })
	l.group(true, func(c *Change) {
		l.check(errors.Join(c.Attach(1, []byte("a")), c.Checkpoint(1, 4), c.Checkpoint(9, 1)))
	})
	l.group(true, func(c *Change) { l.check(errors.Join(c.Grant(3, 30), c.Revoke(3))) })
	l.group(false, func(c *Change) { l.check(c.Grant(3, 30)) })
	l.group(true, func(c *Change) { l.check(errors.Join(c.Checkpoint(1, 3), c.Revoke(2), c.Grant(2, 25))) })
	l.group(true, func(c *Change) { l.check(errors.Join(c.Detach(1, []byte("a")), c.Revoke(1))) })
	want := []string{
		"granted [{2 20 0} {1 10 4}] revoked [] checkpointed []",
		"granted [{2 25 0}] revoked [2] checkpointed [{1 10 3}]",
		"granted [] revoked [1] checkpointed []",
	}
	if !slices.Equal(l.seen, want) {
		t.Errorf("seen: %s", strings.Join(l.seen, "\n"))
	}
}

func TestDamagedRecordsAreRefused(t *testing.T) {
	t.Parallel()
	lease, attachment := appendLeaseKey(nil, 1), appendAttachmentKey(nil, 1, []byte("a"))
	for name, record := range map[string][2]string{
		"an empty record":                    {string(lease), ""},
		"a time below the smallest":          {string(lease), "\x01\x00"},
		"a time above the largest":           {string(lease), "\xff\xff\xff\xff\x7f\x00"},
		"a record without what remains":      {string(lease), "\x05"},
		"a record that goes on":              {string(lease), "\x05\x00\x00"},
		"a negative rest":                    {string(lease), "\x05\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"},
		"a short id":                         {string(lease[:5]) + "\x00", "\x05\x00"},
		"a key on a lease that is not there": {string(attachment), ""},
		"an attachment without a key":        {string(attachment[:9]) + "\x00", ""},
	} {
		l := newLab(t)
		b := l.db.NewBatch()
		l.check(errors.Join(b.Set([]byte(record[0]), []byte(record[1]), nil), l.db.Commit(b), b.Close()))
		if _, err := Load(l.db); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAReadThatFailsIsNotTakenForNoKeys: whoever asks what hangs on a lease revokes it next, or judges who may.
func TestAReadThatFailsIsNotTakenForNoKeys(t *testing.T) {
	t.Parallel()
	broken := &errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
			return errorfs.ErrInjected
		}
		return nil
	})}
	l := newLabOn(t, errorfs.Wrap(vfs.NewMem(), broken))
	l.group(true, func(c *Change) {
		l.check(errors.Join(c.Grant(1, 10), c.Attach(1, []byte("a")), c.Attach(1, []byte("b"))))
	})
	l.check(l.db.Flush()) // what is read from here on is read from a file
	for name, read := range map[string]func(c *Change) (found bool, err error){
		"loading":               func(*Change) (bool, error) { x, err := Load(l.db); return x != nil, err },
		"the keys":              func(*Change) (bool, error) { k, err := l.table.Keys(l.db, 1); return len(k) > 0, err },
		"the first key":         func(*Change) (bool, error) { _, ok, err := l.table.First(l.db, 1, nil); return ok, err },
		"a group's keys":        func(c *Change) (bool, error) { k, err := c.Keys(1); return len(k) > 0, err },
		"a group's first key":   func(c *Change) (bool, error) { _, ok, err := c.First(1, nil); return ok, err },
		"whether a key is hung": func(c *Change) (bool, error) { return c.Attached(1, []byte("a")) },
		"taking a key off":      func(c *Change) (bool, error) { err := c.Detach(1, []byte("a")); return err == nil, err },
	} {
		b := l.db.NewBatch()
		c := l.table.Begin(b)
		broken.On()
		found, err := read(c)
		broken.Off()
		_ = c.Close() // it tells of the failed read once more
		l.check(b.Close())
		if found || !errors.Is(err, errorfs.ErrInjected) {
			t.Errorf("%s from a disk that fails: %t, %v", name, found, err)
		}
	}
	l.want("1:0/10[a b]")
}
