package lease

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// idBytes is the length of an id in a key.
const idBytes = 8

// appendLeaseKey appends the key of a lease's record.
func appendLeaseKey(dst []byte, id int64) []byte {
	var n [idBytes]byte
	binary.BigEndian.PutUint64(n[:], uint64(id))
	return storage.AppendPlainKey(dst, storage.SpaceLeases, n[:])
}

// appendAttachmentKey appends the key that says that a user's key hangs on a lease. Without a user's key it is before all
// of the lease's.
func appendAttachmentKey(dst []byte, id int64, key []byte) []byte {
	var n [idBytes]byte
	binary.BigEndian.PutUint64(n[:], uint64(id))
	return storage.AppendPlainKey(dst, storage.SpaceAttachments, n[:], key)
}

// attachmentBounds returns the half-open range of keys that holds the attachments of one lease.
func attachmentBounds(id int64) (lower, upper []byte) {
	lower = appendAttachmentKey(nil, id, nil)
	if next := uint64(id) + 1; next != 0 {
		return lower, appendAttachmentKey(nil, int64(next), nil)
	}
	_, upper = storage.SpaceBounds(storage.SpaceAttachments)
	return lower, upper
}

// splitAttachmentKey returns the lease and the user's key, which aliases the attachment's.
func splitAttachmentKey(attachment []byte) (id int64, key []byte, ok bool) {
	rest := storage.PlainRest(attachment)
	if len(rest) <= idBytes {
		return 0, nil, false
	}
	return int64(binary.BigEndian.Uint64(rest)), rest[idBytes:], true
}

// appendState appends the value of a lease's record.
func appendState(dst []byte, s state) []byte {
	dst = binary.AppendUvarint(dst, uint64(s.ttl))
	return binary.AppendUvarint(dst, uint64(s.remaining))
}

// Decode reads a lease's record. rest is its key without the space, as storage.PlainRest returns it. The error wraps
// storage.ErrCorrupt.
func Decode(rest, value []byte) (Lease, error) {
	if len(rest) != idBytes {
		return Lease{}, fmt.Errorf("%w: the key %x of a lease", storage.ErrCorrupt, rest)
	}
	id := binary.BigEndian.Uint64(rest)
	ttl, n := binary.Uvarint(value)
	if n <= 0 || ttl < MinTTL || ttl > MaxTTL {
		return Lease{}, fmt.Errorf("%w: the time to live of the lease %x", storage.ErrCorrupt, id)
	}
	remaining, m := binary.Uvarint(value[n:])
	if m <= 0 || n+m != len(value) || remaining > math.MaxInt64 {
		return Lease{}, fmt.Errorf("%w: what remains of the lease %x", storage.ErrCorrupt, id)
	}
	return Lease{ID: int64(id), TTL: int64(ttl), Remaining: int64(remaining)}, nil
}

// loadLeases reads all records of leases.
func (t *Table) loadLeases() error {
	lower, upper := storage.SpaceBounds(storage.SpaceLeases)
	return each(t.db, lower, upper, func(it *storage.Iterator) error {
		value, err := it.ValueAndErr()
		if err != nil {
			return t.db.Explain("reading the leases", err)
		}
		l, err := Decode(storage.PlainRest(it.Key()), value)
		if err != nil {
			return storage.Corruptf(t.db.Dir(), "reading the leases: %w", err)
		}
		t.leases[l.ID] = state{ttl: l.TTL, remaining: l.Remaining}
		return nil
	})
}

// countKeys counts the attachments of each lease. Those of one lease stand together.
func (t *Table) countKeys() error {
	var at, n, size int64
	flush := func() error {
		if n == 0 {
			return nil
		}
		s, ok := t.leases[at]
		if !ok {
			return storage.Corruptf(t.db.Dir(), "%d keys hang on the lease %x, which is not there", n, uint64(at))
		}
		s.keys, s.keyBytes = n, size
		t.leases[at] = s
		return nil
	}
	lower, upper := storage.SpaceBounds(storage.SpaceAttachments)
	err := each(t.db, lower, upper, func(it *storage.Iterator) error {
		id, key, ok := splitAttachmentKey(it.Key())
		if !ok {
			return storage.Corruptf(t.db.Dir(), "the attachment %x cannot be read", it.Key())
		}
		if id != at {
			if err := flush(); err != nil {
				return err
			}
			at, n, size = id, 0, 0
		}
		n++
		size += int64(len(key))
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// each calls fn at every record of [lower, upper).
func each(db *storage.DB, lower, upper []byte, fn func(it *storage.Iterator) error) (err error) {
	it, err := db.NewIter(&storage.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return fmt.Errorf("read the leases: %w", err)
	}
	defer func() { err = errors.Join(err, db.Explain("reading the leases", it.Close())) }()
	for ok := it.First(); ok; ok = it.Next() {
		if err := fn(it); err != nil {
			return err
		}
	}
	return db.Explain("reading the leases", it.Error())
}

// Keys reads which keys hang on a lease from db, the table's database, sorted. There are none when the lease is not
// there. The caller keeps the database open while it reads; the keys are the caller's. Groups that were committed meanwhile may
// be seen or not, each as a whole.
func (t *Table) Keys(db *storage.DB, id int64) ([][]byte, error) {
	var keys [][]byte
	lower, upper := attachmentBounds(id)
	err := each(db, lower, upper, func(it *storage.Iterator) error {
		_, key, ok := splitAttachmentKey(it.Key())
		if !ok {
			return storage.Corruptf(db.Dir(), "the attachment %x cannot be read", it.Key())
		}
		keys = append(keys, append([]byte{}, key...))
		return nil
	})
	return keys, err
}
