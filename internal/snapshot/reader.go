package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Reader is a state as a stream. It reads the state as it was when the Reader
// was made. Not for concurrent use; Close must be called.
type Reader struct {
	it      *storage.Iterator
	loader  mvcc.Loader
	out     []byte // what Read has not given yet
	payload []byte
	records uint64
	started bool
	ended   bool
}

// NewReader opens a consistent view of db.
func NewReader(db *storage.DB) (*Reader, error) {
	it, err := db.NewIter(nil)
	if err != nil {
		return nil, fmt.Errorf("snapshot: open a view of the state: %w", err)
	}
	return &Reader{it: it}, nil
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	for len(r.out) == 0 {
		if r.ended {
			return 0, io.EOF
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.out)
	r.out = r.out[n:]
	return n, nil
}

// fill makes the next block, the header before the first, the end after the last.
func (r *Reader) fill() error {
	var head []byte
	valid := r.it.Valid()
	if !r.started {
		r.started = true
		head = appendHeader(nil)
		valid = r.it.First()
	}
	r.payload = r.payload[:0]
	for ; valid && len(r.payload) < BlockBytes; valid = r.next() {
		if !travels(r.it.Key()) {
			continue
		}
		value, err := r.value()
		if err != nil {
			return fmt.Errorf("snapshot: read the state: %w", err)
		}
		r.payload = binary.AppendUvarint(r.payload, uint64(len(r.it.Key())))
		r.payload = append(r.payload, r.it.Key()...)
		r.payload = binary.AppendUvarint(r.payload, uint64(len(value)))
		r.payload = append(r.payload, value...)
		r.records++
	}
	if err := r.it.Error(); err != nil {
		return fmt.Errorf("snapshot: read the state: %w", err)
	}
	r.out = head
	if len(r.payload) > 0 {
		r.out = append(appendFrame(r.out, r.payload), r.payload...)
	}
	if !valid {
		r.out = appendEnd(r.out, r.records)
		r.ended = true
	}
	return nil
}

// next moves to the next record. Large values are read where data names them, and not once more where they lie.
func (r *Reader) next() bool {
	if !r.it.Next() || r.it.Key()[0] != storage.SpaceLarge {
		return r.it.Valid()
	}
	_, behind := storage.SpaceBounds(storage.SpaceLarge)
	return r.it.SeekGE(behind)
}

// value returns what the stream has under the key that the iterator is at: versions are whole in it.
func (r *Reader) value() ([]byte, error) {
	if r.it.Key()[0] != storage.SpaceData {
		return r.it.ValueAndErr()
	}
	kv, _, err := r.loader.Load(r.it)
	return kv.Raw(), err
}

// Records returns how many records are in the blocks that were begun.
func (r *Reader) Records() uint64 { return r.records }

// Close gives the view back.
func (r *Reader) Close() error {
	if err := errors.Join(r.loader.Close(), r.it.Close()); err != nil {
		return fmt.Errorf("snapshot: close the view: %w", err)
	}
	return nil
}
