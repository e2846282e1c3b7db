package lease

import (
	"bytes"
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// First reads the first key at or after from that hangs on a lease, from db, the table's database; ok is false when there is none.
// The rest is as of Keys.
func (t *Table) First(db *storage.DB, id int64, from []byte) (key []byte, ok bool, err error) {
	if t.KeyCount(id) == 0 {
		return nil, false, nil
	}
	_, upper := attachmentBounds(id)
	it, err := db.NewIter(&storage.IterOptions{LowerBound: appendAttachmentKey(nil, id, from), UpperBound: upper})
	if err != nil {
		return nil, false, fmt.Errorf("read the keys of a lease: %w", err)
	}
	if it.First() {
		if _, key, ok = splitAttachmentKey(it.Key()); !ok {
			err = storage.Corruptf(db.Dir(), "the attachment %x cannot be read", it.Key())
		}
		key = bytes.Clone(key)
	}
	if e := it.Close(); e != nil && err == nil {
		err = db.Explain("reading the keys of a lease", e)
	}
	return key, ok && err == nil, err
}

// First returns the first key at or after from that hangs on a lease, as the group sees it; ok is false when there is none. The
// key is the caller's.
func (c *Change) First(id int64, from []byte) (key []byte, ok bool, err error) {
	x, changed := c.leases[id]
	if changed && x.now.keys == 0 {
		return nil, false, nil
	}
	if c.t.KeyCount(id) > 0 {
		if key, ok, err = c.firstStored(id, from); err != nil {
			return nil, false, err
		}
	}
	if !changed {
		return key, ok, nil
	}
	for _, k := range x.attached {
		if k < string(from) || ok && k >= string(key) {
			continue
		}
		c.buf = appendAttachmentKey(c.buf[:0], id, []byte(k))
		if c.attachments[string(c.buf)] {
			key, ok = []byte(k), true
		}
	}
	return key, ok, nil
}

// firstStored is First of what is on disk and was not taken off by the group.
func (c *Change) firstStored(id int64, from []byte) (key []byte, ok bool, err error) {
	if err := c.iterator(); err != nil {
		return nil, false, err
	}
	// What was deleted behind the lease's last key is passed over no further than its own.
	c.it.SetBounds(attachmentBounds(id))
	c.buf = appendAttachmentKey(c.buf[:0], id, from)
	for valid := c.it.SeekGE(c.buf); valid; valid = c.it.Next() {
		if there, known := c.attachments[string(c.it.Key())]; known && !there {
			continue
		}
		if _, key, ok = attachmentAt(c.it); !ok {
			return nil, false, storage.Corruptf(c.t.db.Dir(), "the attachment %x cannot be read", c.it.Key())
		}
		return bytes.Clone(key), true, nil
	}
	if err := c.it.Error(); err != nil {
		return nil, false, c.t.db.Explain("reading the keys of a lease", err)
	}
	return nil, false, nil
}

// iterator opens the iterator over the attachments before the group.
func (c *Change) iterator() error {
	if c.it != nil {
		return nil
	}
	lower, upper := storage.SpaceBounds(storage.SpaceAttachments)
	it, err := c.t.db.NewIter(&storage.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return fmt.Errorf("read the keys of a lease: %w", err)
	}
	c.it = it
	return nil
}
