package etcdfile

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// run is versions in order, in a part of a file, or their heads.
type run struct {
	f       *os.File
	at, end int64 // what is still to be read
	heads   bool
	release bool  // what was read is given back to the disk, where it can be
	punched int64 // where that ends
	in      *bufio.Reader

	head [versionBytes]byte // of the version that comes next
	rev  mvcc.Revision      // of it
}

// Read implements io.Reader.
func (r *run) Read(p []byte) (int, error) {
	if r.at == r.end {
		return 0, io.EOF
	}
	if r.release {
		release(r.f, r.punched, r.at-r.punched)
		r.punched = r.at
	}
	n, err := r.f.ReadAt(p[:min(int64(len(p)), r.end-r.at)], r.at)
	if r.at += int64(n); r.at < r.end && err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// next reads what comes before a value; more is false at the end.
func (r *run) next() (more bool, err error) {
	if _, err := io.ReadFull(r.in, r.head[:]); err == io.EOF {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("read sorted versions: %w", err)
	}
	r.rev, _, _ = decodeHead(r.head[:])
	return true, nil
}

// take returns the version whose head was read, its value in the buffer, which it makes larger if need be.
func (r *run) take(buffer []byte) (version, error) {
	rev, tombstone, size := decodeHead(r.head[:])
	buffer = buffer[:0]
	if !r.heads {
		if int64(size) > r.end-r.at+int64(r.in.Buffered()) {
			return version{}, fmt.Errorf("%w: a version among the sorted ones is damaged", storage.ErrCorrupt)
		}
		if buffer = slices.Grow(buffer, size)[:size]; cap(buffer) > keepBytes && size <= keepBytes {
			buffer = make([]byte, size)
		}
		if _, err := io.ReadFull(r.in, buffer); err != nil {
			return version{}, fmt.Errorf("read sorted versions: %w", err)
		}
	}
	sum := crc32.Update(crc32.Checksum(r.head[sumBytes:], castagnoli), castagnoli, buffer)
	if sum != binary.BigEndian.Uint32(r.head[:]) {
		return version{}, fmt.Errorf("%w: a version among the sorted ones is damaged", storage.ErrCorrupt)
	}
	return version{rev, tombstone, buffer, size}, nil
}

// merger goes through the versions of all runs, in order.
type merger struct {
	heap   []*run // the one that comes next stands first
	buffer []byte // the value of the version before
	begun  bool
}

func newMerger(runs []*run) *merger { return &merger{heap: runs} }

// begin reads the first head of each run.
func (m *merger) begin() error {
	m.begun = true
	if len(m.heap) == 0 {
		return nil
	}
	size := min(max(mergeBytes/len(m.heap), mergeBytesMin), mergeBytesMax)
	for _, r := range m.heap {
		r.in = bufio.NewReaderSize(r, size)
		if _, err := r.next(); err != nil { // no run is empty
			return err
		}
	}
	slices.SortFunc(m.heap, func(a, b *run) int { return compareRevisions(a.rev, b.rev) })
	return nil
}

// next returns the next version; more is false at the end. The value is valid until the next call.
func (m *merger) next() (v version, more bool, err error) {
	if !m.begun {
		err = m.begin()
	} else if len(m.heap) > 0 {
		err = m.pass()
	}
	if err != nil || len(m.heap) == 0 {
		return version{}, false, err
	}
	v, err = m.heap[0].take(m.buffer)
	m.buffer = v.value
	return v, err == nil, err
}

// pass goes on after the version that was taken.
func (m *merger) pass() error {
	more, err := m.heap[0].next()
	if err != nil {
		return err
	}
	if !more {
		last := len(m.heap) - 1
		m.heap[0] = m.heap[last]
		m.heap = m.heap[:last]
	}
	siftDown(m.heap)
	return nil
}

// siftDown moves the first run of a heap down to where it belongs.
func siftDown(heap []*run) {
	for at := 0; ; {
		least := at
		for child := 2*at + 1; child <= 2*at+2 && child < len(heap); child++ {
			if heap[child].rev.Less(heap[least].rev) {
				least = child
			}
		}
		if least == at {
			return
		}
		heap[at], heap[least] = heap[least], heap[at]
		at = least
	}
}
