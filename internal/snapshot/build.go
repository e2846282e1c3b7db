package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Build writes the stream r into db, which must be an empty state. The result is
// not durable before db is flushed. Errors wrap ErrInvalid when the stream is at
// fault; db is then to be thrown away.
func Build(db *storage.DB, r io.Reader) error {
	b := builder{db: db}
	var head [headerBytes]byte
	if err := readFull(r, head[:]); err != nil {
		return err
	}
	if err := checkHeader(head[:]); err != nil {
		return err
	}
	for {
		more, err := b.block(r)
		if err != nil {
			return err
		}
		if !more {
			return nil
		}
	}
}

type builder struct {
	db      *storage.DB
	payload []byte
	last    []byte
	records uint64
}

// block reads and writes one block; more is false after the end.
func (b *builder) block(r io.Reader) (more bool, err error) {
	var frame [frameBytes]byte
	if err := readFull(r, frame[:4]); err != nil {
		return false, err
	}
	n := binary.BigEndian.Uint32(frame[:])
	if n == 0 {
		return false, b.end(r)
	}
	if n > blockBytesMax {
		return false, fmt.Errorf("%w: a block of %d bytes, the bound is %d", ErrInvalid, n, blockBytesMax)
	}
	if err := readFull(r, frame[4:]); err != nil {
		return false, err
	}
	if err := b.read(r, int(n)); err != nil {
		return false, err
	}
	if crc32.Checksum(b.payload, castagnoli) != binary.BigEndian.Uint32(frame[4:]) {
		return false, fmt.Errorf("%w: a block's checksum differs", ErrInvalid)
	}
	return true, b.write()
}

// read reads a payload of n bytes. It takes memory as the bytes come, not on the word of the sender.
func (b *builder) read(r io.Reader, n int) error {
	b.payload = b.payload[:0]
	for len(b.payload) < n {
		at := len(b.payload)
		b.payload = slices.Grow(b.payload, min(n-at, readStep))
		b.payload = b.payload[:min(n, cap(b.payload))]
		if err := readFull(r, b.payload[at:]); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) write() error {
	batch := b.db.NewBatch()
	if err := b.fill(batch); err != nil {
		return errors.Join(err, batch.Close())
	}
	if err := b.db.Commit(batch); err != nil {
		return fmt.Errorf("snapshot: write the state: %w", err)
	}
	return batch.Close()
}

func (b *builder) fill(batch *storage.Batch) error {
	for p := b.payload; len(p) > 0; {
		key, value, rest, err := nextRecord(p)
		if err != nil {
			return err
		}
		if !known(key) {
			return fmt.Errorf("%w: the key %x does not belong here", ErrInvalid, key)
		}
		if b.last != nil && storage.CompareKeys(b.last, key) >= 0 {
			return fmt.Errorf("%w: keys are out of order", ErrInvalid)
		}
		b.last = append(b.last[:0], key...)
		if err := set(batch, key, value); err != nil {
			return err
		}
		b.records++
		p = rest
	}
	return nil
}

// set puts a record into the batch, a version in the form that this release keeps it in.
func set(batch *storage.Batch, key, value []byte) error {
	if key[0] == storage.SpaceData {
		if err := mvcc.StoreVersion(batch, key, value); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		return nil
	}
	if err := batch.Set(key, value, nil); err != nil {
		return fmt.Errorf("snapshot: write the state: %w", err)
	}
	return nil
}

func (b *builder) end(r io.Reader) error {
	var tail [12]byte
	if err := readFull(r, tail[:]); err != nil {
		return err
	}
	if crc32.Checksum(tail[:8], castagnoli) != binary.BigEndian.Uint32(tail[8:]) {
		return fmt.Errorf("%w: the end's checksum differs", ErrInvalid)
	}
	if n := binary.BigEndian.Uint64(tail[:8]); n != b.records {
		return fmt.Errorf("%w: it holds %d records and says %d", ErrInvalid, b.records, n)
	}
	return nil
}
