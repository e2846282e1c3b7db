package raftlog

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"sync"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/invariant"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// errRead begins errors of the disk, to tell them from bytes that are wrong.
var errRead = errors.New("read")

// readError says what could not be read, and what to do: the disk may be well again, or not.
func readError(s *segment, at int64, err error) error {
	return fmt.Errorf("%w %s at offset %d: %w; look after the disk and start the member again, or %s", errRead, s.path, at, err, storage.Remedy)
}

// reader reads a part of a segment from one end to the other.
type reader struct {
	s      *segment
	off    int64  // of what is read next
	limit  int64  // nothing from here on is looked at
	buf    []byte // read and not consumed: buf[lo:hi] lies at off
	lo, hi int
}

func newReader(s *segment, off, limit int64, size int) *reader {
	return &reader{s: s, off: off, limit: limit, buf: make([]byte, max(size, 2*fieldsMax))}
}

// readBytes is the buffer for reading entries.
const readBytes = 32 << 10

var readBuffers = sync.Pool{New: func() any { return new([readBytes]byte) }}

// entryReader returns a reader that done must be called for.
func entryReader(s *segment, off int64) (r reader, done func()) {
	b := readBuffers.Get().(*[readBytes]byte)
	return reader{s: s, off: off, limit: math.MaxInt64, buf: b[:]}, func() {
		invariant.Poison(b[:])
		readBuffers.Put(b)
	}
}

// peek returns the next n bytes, or fewer where the limit or the file ends. They are valid until the next call. REQUIRES: n is
// at most the size of the buffer.
func (r *reader) peek(n int) ([]byte, error) {
	if r.hi-r.lo >= n {
		return r.buf[r.lo : r.lo+n], nil
	}
	r.hi = copy(r.buf, r.buf[r.lo:r.hi])
	r.lo = 0
	from := r.off + int64(r.hi)
	to := min(int64(len(r.buf)-r.hi), r.limit-from)
	if to > 0 {
		got, err := r.s.file.ReadAt(r.buf[r.hi:r.hi+int(to)], from)
		r.hi += got
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, readError(r.s, from, err)
		}
	}
	return r.buf[r.lo : r.lo+min(n, r.hi-r.lo)], nil
}

// skip goes on by n bytes.
func (r *reader) skip(n int64) {
	r.off += n
	if n < int64(r.hi-r.lo) {
		r.lo += int(n)
		return
	}
	r.lo, r.hi = 0, 0
}

// header reads the header of the record that stands here, and stays there. Errors that are not of the disk are errRecord.
func (r *reader) header() (h header, err error) {
	b, err := r.peek(headerBytes)
	if err != nil {
		return h, err
	}
	h, ok := decodeHeader(b, r.s.seq, r.off)
	if !ok || int64(h.length) > r.limit-r.off-headerBytes {
		return h, errRecord
	}
	return h, nil
}

// fields reads, after header, the fields of the record and stops at its first entry. sum is their checksum.
func (r *reader) fields(h header) (rec record, sum uint32, err error) {
	r.skip(headerBytes)
	b, err := r.peek(int(min(fieldsMax, int64(h.length))))
	if err != nil {
		return rec, 0, err
	}
	rec, n, err := decodeFields(h.kind, b)
	if err != nil {
		return rec, 0, err
	}
	sum = crc32.Checksum(b[:n], castagnoli)
	r.skip(int64(n))
	return rec, sum, nil
}

// entryHead reads the head of the entry that stands here in a record that ends at end, and stops at its data. body is the
// checksum that goes on with the head.
func (r *reader) entryHead(index uint64, end int64, body uint32) (h entryHead, seed, sum uint32, err error) {
	b, err := r.peek(int(min(entryHeadMax, end-r.off)))
	if err != nil {
		return h, 0, 0, err
	}
	h, seed, n := decodeEntryHead(b, index)
	if n == 0 || h.size > uint64(end-r.off-int64(n)) {
		return h, 0, 0, errRecord
	}
	sum = crc32.Update(body, castagnoli, b[:n])
	r.skip(int64(n))
	return h, seed, sum, nil
}

// pass reads the data of an entry and only compares the checksum.
func (r *reader) pass(h entryHead, seed uint32) error {
	for left := h.size; left > 0; {
		b, err := r.peek(int(min(left, uint64(len(r.buf)))))
		if err != nil {
			return err
		}
		if len(b) == 0 {
			return errRecord
		}
		seed = crc32.Update(seed, castagnoli, b)
		left -= uint64(len(b))
		r.skip(int64(len(b)))
	}
	if seed != h.sum {
		return errRecord
	}
	return nil
}

// entry reads the entry that stands here in a record that ends at end.
func (r *reader) entry(index uint64, end int64) (*raftpb.Entry, error) {
	h, seed, _, err := r.entryHead(index, end, 0)
	if err != nil {
		return nil, err
	}
	var data []byte
	if h.size > 0 {
		data = make([]byte, h.size) // the record has as much
		n := copy(data, r.buf[r.lo:r.hi])
		if n < len(data) {
			if k, err := r.s.file.ReadAt(data[n:], r.off+int64(n)); err != nil && !errors.Is(err, io.EOF) {
				return nil, readError(r.s, r.off+int64(n), err)
			} else if k < len(data)-n {
				return nil, errRecord
			}
		}
		r.skip(int64(h.size))
	}
	if crc32.Update(seed, castagnoli, data) != h.sum {
		return nil, errRecord
	}
	return h.entry(index, data), nil
}
