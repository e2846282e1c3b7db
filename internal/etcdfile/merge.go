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

// run is versions in order, in a part of a file.
type run struct {
	f       *os.File
	at, end int64 // what is still to be read
	punched int64 // where what was given back to the disk ends
	in      *bufio.Reader

	head [versionBytes]byte // of the version that comes next
	rev  mvcc.Revision      // of it
}

// Read implements io.Reader. What was read is given back to the disk, where it can be: the file that is made of the runs
// takes its place.
func (r *run) Read(p []byte) (int, error) {
	if r.at == r.end {
		return 0, io.EOF
	}
	release(r.f, r.punched, r.at-r.punched)
	r.punched = r.at
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

// take returns the version whose head was read, in the buffer, which it makes larger if need be.
func (r *run) take(buffer []byte) (version, error) {
	rev, tombstone, n := decodeHead(r.head[:])
	if int64(n) > r.end-r.at+int64(r.in.Buffered()) {
		return version{}, fmt.Errorf("%w: a version among the sorted ones is damaged", storage.ErrCorrupt)
	}
	if buffer = slices.Grow(buffer[:0], n)[:n]; cap(buffer) > keepBytes && n <= keepBytes {
		buffer = make([]byte, n)
	}
	if _, err := io.ReadFull(r.in, buffer); err != nil {
		return version{}, fmt.Errorf("read sorted versions: %w", err)
	}
	sum := crc32.Update(crc32.Checksum(r.head[sumBytes:], castagnoli), castagnoli, buffer)
	if sum != binary.BigEndian.Uint32(r.head[:]) {
		return version{}, fmt.Errorf("%w: a version among the sorted ones is damaged", storage.ErrCorrupt)
	}
	return version{rev, tombstone, buffer}, nil
}

// merge calls fn for the versions of all runs, in order.
func merge(runs []*run, fn func(version) error) error {
	size := min(max(mergeBytes/len(runs), mergeBytesMin), mergeBytesMax)
	heads := slices.Clone(runs) // a heap: the one that comes next stands first
	for _, r := range heads {
		r.in = bufio.NewReaderSize(r, size)
		if _, err := r.next(); err != nil { // no run is empty
			return err
		}
	}
	slices.SortFunc(heads, func(a, b *run) int { return compareRevisions(a.rev, b.rev) })
	var buffer []byte
	for len(heads) > 0 {
		r := heads[0]
		v, err := r.take(buffer)
		if err != nil {
			return err
		}
		buffer = v.value
		if err := fn(v); err != nil {
			return err
		}
		more, err := r.next()
		if err != nil {
			return err
		}
		if !more {
			heads[0] = heads[len(heads)-1]
			heads = heads[:len(heads)-1]
		}
		siftDown(heads)
	}
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
