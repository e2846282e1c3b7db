package lease

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/ashlar-kv/ashlar/internal/invariant"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Change is what one group of entries does to the leases. It belongs to one goroutine, and only one may be under way. After an
// error of Attach, Detach or Keys, and of the others when it is none of this package's, the group must be dropped.
type Change struct {
	t *Table
	b *storage.Batch

	leases map[int64]*touched
	order  []int64 // of leases, as they came
	// attachments holds what the group made of each attachment that it touched, or has seen, by the record's key: whether it
	// is there.
	attachments map[string]bool

	it  *storage.Iterator // over the attachments before the group; opened when first needed
	buf []byte
}

// touched is a lease that the group has changed, or a key of it.
type touched struct {
	before, now     state
	existed, exists bool
	revoked         bool     // at least once
	attached        []string // keys that the group has hung on it, the later detached and repeated ones too
}

// Begin starts a group's change; its records go into b. It sees itself; readers see it after Publish. Close must be
// called at the end.
func (t *Table) Begin(b *storage.Batch) *Change { return &Change{t: t, b: b} }

// Get returns a lease as the group sees it.
func (c *Change) Get(id int64) (Lease, bool) {
	if x, ok := c.leases[id]; ok {
		return x.now.lease(id), x.exists
	}
	return c.t.Get(id)
}

// Exists tells whether the group sees the lease.
func (c *Change) Exists(id int64) bool {
	_, ok := c.Get(id)
	return ok
}

// touch returns the group's own state of a lease.
func (c *Change) touch(id int64) *touched {
	if x, ok := c.leases[id]; ok {
		return x
	}
	if c.leases == nil {
		c.leases = make(map[int64]*touched)
	}
	x := &touched{}
	x.before, x.existed = c.t.get(id)
	x.now, x.exists = x.before, x.existed
	c.leases[id] = x
	c.order = append(c.order, id)
	return x
}

// Grant adds a lease, with MinTTL when ttl is less. It returns ErrNotFound for the id 0, which is none, ErrTTLTooLarge and
// ErrExists; nothing is changed then.
func (c *Change) Grant(id, ttl int64) error {
	switch {
	case id == 0:
		return ErrNotFound
	case ttl > MaxTTL:
		return ErrTTLTooLarge
	case c.Exists(id):
		return ErrExists
	}
	x := c.touch(id)
	invariant.Check(x.now.keys == 0, "lease %x is granted and has %d keys already", uint64(id), x.now.keys)
	x.now, x.exists = state{ttl: max(ttl, MinTTL)}, true
	return c.store(id, x.now)
}

// Revoke removes a lease. It returns ErrNotFound, and changes nothing, when there is none. The entry must also detach
// all its keys.
func (c *Change) Revoke(id int64) error {
	if !c.Exists(id) {
		return ErrNotFound
	}
	x := c.touch(id)
	x.exists, x.revoked = false, true
	c.buf = appendLeaseKey(c.buf[:0], id)
	if err := c.b.Delete(c.buf, nil); err != nil {
		return fmt.Errorf("remove the lease %x: %w", uint64(id), err)
	}
	return nil
}

// Checkpoint notes what is left of a lease; 0 or less means that it begins anew. A lease that is not there is passed over.
func (c *Change) Checkpoint(id, remaining int64) error {
	remaining = max(remaining, 0)
	if l, ok := c.Get(id); !ok || l.Remaining == remaining {
		return nil
	}
	x := c.touch(id)
	x.now.remaining = remaining
	return c.store(id, x.now)
}

func (c *Change) store(id int64, s state) error {
	c.buf = appendLeaseKey(c.buf[:0], id)
	n := len(c.buf)
	c.buf = appendState(c.buf, s)
	if err := c.b.Set(c.buf[:n], c.buf[n:], nil); err != nil {
		return fmt.Errorf("store the lease %x: %w", uint64(id), err)
	}
	return nil
}

// Attach hangs a key on a lease. REQUIRES: the lease exists and the key does not hang on it.
func (c *Change) Attach(id int64, key []byte) error {
	x := c.touch(id)
	invariant.Check(x.exists, "the key %q is hung on the lease %x, which is not there", key, uint64(id))
	c.mark(id, key, true)
	x.now.keys++
	x.now.keyBytes += int64(len(key))
	x.attached = append(x.attached, string(key))
	if err := c.b.Set(c.buf, nil, nil); err != nil {
		return fmt.Errorf("hang a key on the lease %x: %w", uint64(id), err)
	}
	return nil
}

// Detach takes a key off a lease, which may have been revoked by the same entry. A key that does not hang on it stays as it is: one that
// was taken over from etcd may name a lease that was gone by then, whose id may have been granted anew.
func (c *Change) Detach(id int64, key []byte) error {
	switch there, err := c.Attached(id, key); {
	case err != nil:
		return fmt.Errorf("look for a key on the lease %x: %w", uint64(id), err)
	case !there:
		return nil
	}
	x := c.touch(id)
	c.mark(id, key, false)
	x.now.keys--
	x.now.keyBytes -= int64(len(key))
	invariant.Check(x.now.keys >= 0, "%q was taken off the lease %x, which has none", key, uint64(id))
	if err := c.b.Delete(c.buf, nil); err != nil {
		return fmt.Errorf("take a key off the lease %x: %w", uint64(id), err)
	}
	return nil
}

// mark notes whether an attachment is there, and leaves its record's key in c.buf.
func (c *Change) mark(id int64, key []byte, there bool) {
	c.buf = appendAttachmentKey(c.buf[:0], id, key)
	was, known := c.attachments[string(c.buf)]
	invariant.Check(!known || was != there, "key %q on lease %x: hung twice or taken off twice", key, uint64(id))
	c.note(c.buf, there)
}

// note notes whether an attachment is there, by its record's key.
func (c *Change) note(record []byte, there bool) {
	if c.attachments == nil {
		c.attachments = make(map[string]bool)
	}
	c.attachments[string(record)] = there
}

// Keys returns the keys that hang on a lease, sorted, as the group sees it. They are the caller's.
func (c *Change) Keys(id int64) ([][]byte, error) {
	onDisk := c.t.KeyCount(id)
	now := onDisk
	x, changed := c.leases[id]
	if changed {
		now = x.now.keys
	}
	if now == 0 {
		return nil, nil
	}
	keys := make([][]byte, 0, now)
	var err error
	if onDisk > 0 {
		if keys, err = c.stored(keys, id, onDisk); err != nil {
			return nil, err
		}
	}
	if changed && len(x.attached) > 0 {
		keys = c.hung(keys, id, x.attached)
	}
	invariant.Check(len(keys) == int(now), "lease %x has %d keys and counts %d", uint64(id), len(keys), now)
	return keys, nil
}

// stored appends those of the lease's n keys on disk that the group has not taken off. It does not look behind the last
// one, where there may be nothing but what was deleted for a long way.
func (c *Change) stored(keys [][]byte, id, n int64) ([][]byte, error) {
	if err := c.iterator(); err != nil {
		return nil, err
	}
	c.it.SetBounds(attachmentBounds(id))
	c.buf = appendAttachmentKey(c.buf[:0], id, nil)
	for i := range n {
		if ok := i == 0 && c.it.SeekGE(c.buf) || i > 0 && c.it.Next(); !ok {
			if err := c.it.Error(); err != nil {
				return nil, c.t.db.Explain("reading the keys of a lease", err)
			}
		}
		of, key, ok := attachmentAt(c.it)
		if !ok || of != id {
			return nil, storage.Corruptf(c.t.db.Dir(), "the lease %x has %d keys, and %d were counted", uint64(id), i, n)
		}
		there, known := c.attachments[string(c.it.Key())]
		if !known { // whoever takes them off need not look
			c.note(c.it.Key(), true)
		}
		if there || !known {
			keys = append(keys, bytes.Clone(key))
		}
	}
	return keys, nil
}

// attachmentAt returns what the iterator stands on.
func attachmentAt(it *storage.Iterator) (id int64, key []byte, ok bool) {
	if !it.Valid() {
		return 0, nil, false
	}
	return splitAttachmentKey(it.Key())
}

// hung adds the keys that the group has hung on the lease to those stored.
func (c *Change) hung(keys [][]byte, id int64, attached []string) [][]byte {
	for _, key := range attached {
		c.buf = appendAttachmentKey(c.buf[:0], id, []byte(key))
		if c.attachments[string(c.buf)] {
			keys = append(keys, []byte(key))
		}
	}
	// A key that was taken off and hung on again is there twice.
	slices.SortFunc(keys, bytes.Compare)
	return slices.CompactFunc(keys, bytes.Equal)
}

// Attached tells whether a key hangs on a lease, as the group sees it.
func (c *Change) Attached(id int64, key []byte) (bool, error) {
	c.buf = appendAttachmentKey(c.buf[:0], id, key)
	if there, known := c.attachments[string(c.buf)]; known {
		return there, nil
	}
	return c.t.db.Get(c.buf, func([]byte) error { return nil })
}

// Publish shows the change to readers and to the one who observes. REQUIRES: its batch is committed.
func (c *Change) Publish() {
	var changed Changed
	c.t.mu.Lock()
	for _, id := range c.order {
		x := c.leases[id]
		invariant.Check(x.exists || x.now.keys == 0, "lease %x is gone and has %d keys", uint64(id), x.now.keys)
		if x.exists {
			c.t.leases[id] = x.now
		} else {
			delete(c.t.leases, id)
		}
		changed.add(id, x)
	}
	c.t.mu.Unlock()
	if c.t.observe != nil && len(changed.Granted)+len(changed.Revoked)+len(changed.Checkpointed) > 0 {
		c.t.observe(changed)
	}
}

// add notes what became of one lease.
func (c *Changed) add(id int64, x *touched) {
	if x.existed && x.revoked {
		c.Revoked = append(c.Revoked, id)
	}
	switch {
	case !x.exists:
	case !x.existed || x.revoked:
		c.Granted = append(c.Granted, x.now.lease(id))
	case x.before.remaining != x.now.remaining:
		c.Checkpointed = append(c.Checkpointed, x.now.lease(id))
	}
}

// Close ends the change; without Publish before it nothing of it happened. It may be called again.
func (c *Change) Close() error {
	if c.it == nil {
		return nil
	}
	it := c.it
	c.it = nil
	return c.t.db.Explain("closing the leases", it.Close())
}
