package etcdfile

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// run is versions in order, in a part of a file.
type run struct {
	f       *os.File
	at, end int64 // what is still to be read
	punched int64 // where what was given back to the disk ends
	in      *bufio.Reader

	rev    mvcc.Revision // of the version that comes next
	length uint32        // as in the file
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
	r.at += int64(n)
	return n, err
}

// next reads what comes before a value; more is false at the end.
func (r *run) next() (more bool, err error) {
	var head [versionBytes]byte
	if _, err := io.ReadFull(r.in, head[:]); err == io.EOF {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("read sorted versions: %w", err)
	}
	r.rev = mvcc.Revision{Main: int64(binary.BigEndian.Uint64(head[:])), Sub: binary.BigEndian.Uint32(head[8:])}
	r.length = binary.BigEndian.Uint32(head[8+4:])
	return true, nil
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
	var value []byte
	for len(heads) > 0 {
		r := heads[0]
		n := int(r.length &^ uint32(tombstoneFlag))
		if value = slices.Grow(value[:0], n)[:n]; cap(value) > keepBytes && n <= keepBytes {
			value = make([]byte, n)
		}
		if _, err := io.ReadFull(r.in, value); err != nil {
			return fmt.Errorf("read sorted versions: %w", err)
		}
		if err := fn(version{r.rev, r.length&tombstoneFlag != 0, value}); err != nil {
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
