package mvcc

import (
	"bytes"
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// cursor walks live keys at a revision, in order of the keys or backwards.
type cursor interface {
	// next moves to the next live key; false is the end, or an error.
	next() bool
	// key and record are the key and its version, valid until next is called.
	key() []byte
	record() record
	// failure is why next returned false, nil at the end.
	failure() error
}

// stepsBeforeSeek is how many versions a scan steps over before it seeks: a step costs some tens of nanoseconds, a
// seek about a microsecond.
const stepsBeforeSeek = 8

// scan is the cursor over a snapshot's data in order of the keys. It costs one step of the iterator a key where
// the newest version is the one to read, values are not touched.
type scan struct {
	snap    *snapshot
	rev     int64
	started bool
	user    []byte
	version record
	err     error
}

// scan returns a cursor over [key, end) at rev. It has the snapshot for itself while it is used.
func (s *snapshot) scan(key, end []byte, rev int64) *scan {
	s.bound(key, end)
	return &scan{snap: s, rev: rev}
}

func (c *scan) key() []byte    { return c.user }
func (c *scan) record() record { return c.version }
func (c *scan) failure() error { return c.err }

func (c *scan) next() bool {
	it := c.snap.it
	for ok, skipped := c.step(), 0; ok; {
		user, main, sub, good := storage.DecodeDataKey(it.Key())
		if !good {
			c.err = fmt.Errorf("%w: data key %x", storage.ErrCorrupt, it.Key())
			return false
		}
		if main > c.rev {
			skipped++
			ok = c.snap.skipNewer(user, c.rev, skipped)
			continue
		}
		v, err := it.ValueAndErr()
		if err != nil {
			c.err = fmt.Errorf("reading a value: %w", err)
			return false
		}
		if len(v) == 0 {
			ok, skipped = it.NextPrefix(), 0
			continue
		}
		c.user, c.version = user, record{v}
		c.err = c.version.standsAt(user, main, sub)
		return c.err == nil
	}
	if err := it.Error(); err != nil {
		c.err = fmt.Errorf("reading keys: %w", err)
	}
	return false
}

func (c *scan) step() bool {
	if !c.started {
		c.started = true
		return c.snap.it.First()
	}
	return c.snap.it.NextPrefix()
}

// skipNewer moves the iterator from a version above rev of the key user towards the next version that can be
// visible: it may stop at another such version, so it is called again until it does not. user aliases the iterator.
func (s *snapshot) skipNewer(user []byte, rev int64, skipped int) bool {
	if skipped <= stepsBeforeSeek {
		return s.it.Next()
	}
	s.keyBuf = storage.AppendDataKey(s.keyBuf[:0], user, rev, maxSub)
	return s.it.SeekGE(s.keyBuf)
}

// count returns the number of live keys in [key, end) at rev, by looking at each.
func (s *snapshot) count(key, end []byte, rev int64) (n int64, err error) {
	if emptyRange(key, end) {
		return 0, nil
	}
	s.bound(key, end)
	skipped := 0
	for ok := s.it.First(); ok; {
		user, main, _, good := storage.DecodeDataKey(s.it.Key())
		if !good {
			return 0, fmt.Errorf("%w: data key %x", storage.ErrCorrupt, s.it.Key())
		}
		if main > rev {
			skipped++
			ok = s.skipNewer(user, rev, skipped)
			continue
		}
		v := s.it.LazyValue()
		if v.Len() > 0 {
			n++
		}
		ok, skipped = s.it.NextPrefix(), 0
	}
	if err := s.it.Error(); err != nil {
		return 0, fmt.Errorf("counting keys: %w", err)
	}
	return n, nil
}

// reverseScan is the cursor over a snapshot's data against the order of the keys. Versions of a key come oldest first
// that way, so each is copied until a newer one turns out to be above the revision.
type reverseScan struct {
	snap    *snapshot
	rev     int64
	started bool
	valid   bool
	user    []byte // copies: the iterator is past them
	value   []byte
	err     error
}

// reverseScan returns a cursor from the last key of [key, end) down, at rev.
func (s *snapshot) reverseScan(key, end []byte, rev int64) *reverseScan {
	s.bound(key, end)
	return &reverseScan{snap: s, rev: rev}
}

func (c *reverseScan) key() []byte    { return c.user }
func (c *reverseScan) record() record { return record{c.value} }
func (c *reverseScan) failure() error { return c.err }

func (c *reverseScan) next() bool {
	if !c.started {
		c.started, c.valid = true, c.snap.it.Last()
	}
	for c.valid && c.err == nil {
		if c.oneKey() && c.err == nil {
			return true
		}
	}
	if err := c.snap.it.Error(); err != nil && c.err == nil {
		c.err = fmt.Errorf("reading keys backwards: %w", err)
	}
	return false
}

// oneKey goes over all versions of the key at which the iterator stands and tells whether it is live.
func (c *reverseScan) oneKey() (live bool) {
	it := c.snap.it
	for steps := 0; c.valid; steps++ {
		user, main, sub, good := storage.DecodeDataKey(it.Key())
		if !good {
			c.err = fmt.Errorf("%w: data key %x", storage.ErrCorrupt, it.Key())
			return false
		}
		if steps == 0 {
			c.user, c.value = append(c.user[:0], user...), c.value[:0]
		} else if !bytes.Equal(user, c.user) {
			return live
		}
		switch {
		case main > c.rev:
			c.seekBefore()
			return live
		case steps == stepsBeforeSeek:
			c.snap.keyBuf = storage.AppendDataKey(c.snap.keyBuf[:0], c.user, c.rev, maxSub)
			if c.valid = it.SeekGE(c.snap.keyBuf); !c.valid {
				return false // the iterator's error; it still has the key and the value of before
			}
			_, main, sub, _ = storage.DecodeDataKey(it.Key())
			live = c.take(main, sub)
			c.seekBefore()
			return live
		}
		live = c.take(main, sub)
		c.valid = it.Prev()
	}
	return live && it.Error() == nil // there may be newer versions that cannot be read
}

// take copies the value under the iterator, which is that of the key at a revision.
func (c *reverseScan) take(main int64, sub uint32) (live bool) {
	v, err := c.snap.it.ValueAndErr()
	if err != nil {
		c.err = fmt.Errorf("reading a value: %w", err)
		return false
	}
	c.value = append(c.value[:0], v...)
	c.err = c.record().standsAt(c.user, main, sub)
	return len(v) > 0
}

// seekBefore moves to the oldest version of the key before c.user.
func (c *reverseScan) seekBefore() {
	c.snap.keyBuf = storage.AppendDataPrefix(c.snap.keyBuf[:0], c.user)
	c.valid = c.snap.it.SeekLT(c.snap.keyBuf)
}
