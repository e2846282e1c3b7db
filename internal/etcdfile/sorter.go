package etcdfile

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"slices"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// Bounds of a sorter's memory: that of a run, unless a test has another; that of all buffers from which runs are merged; and
// the least and the most of one of these. So it is 24 MiB for a state of up to 32 GiB, and 1/2,000 more of what is above;
// and whoever reads an image has buffers to merge of its own.
const (
	runBytes      = 8 << 20
	mergeBytes    = 16 << 20
	mergeBytesMin = 4 << 10
	mergeBytesMax = 128 << 10
)

// compareYield is after how many comparisons sorting lets others run, as giveWay does.
const compareYield = 8 << 10

// In the file a version is a CRC-32C of all that follows, its revision, the length of its value, whose highest bit marks a tombstone,
// and the value. The head of a version, after the versions of its run, is the same without the value.
const (
	placeBytes    = 16
	sumBytes      = 4
	versionBytes  = sumBytes + 8 + 4 + 4
	tombstoneFlag = 1 << 31
)

// version is a version of a key, as the file is to have it.
type version struct {
	rev       mvcc.Revision
	tombstone bool
	value     []byte
	size      int // of the value, which a head lacks
}

// sorter puts versions in order of their revisions. Runs of them, each in order and with their heads after them, go to a file, from which
// they are merged. It belongs to one goroutine.
type sorter struct {
	f        *os.File
	bytesMax int    // of a run; one version alone may be larger
	rest     func() // lets others run

	data   []byte  // the run that is being filled
	places []place // its versions

	out  *bufio.Writer
	end  int64 // of what was written to the file
	runs []bounds
}

// bounds are where in the file a run begins, its heads do, and it ends.
type bounds struct{ versions, heads, end int64 }

// place is where in the data a version is.
type place struct {
	main    int64
	sub, at uint32
}

func (p place) rev() mvcc.Revision { return mvcc.Revision{Main: p.main, Sub: p.sub} }

func compareRevisions(a, b mvcc.Revision) int {
	return cmp.Or(cmp.Compare(a.Main, b.Main), cmp.Compare(a.Sub, b.Sub))
}

// newSorter returns a sorter in a file, which is empty.
func newSorter(f *os.File, bytesMax int, rest func()) *sorter {
	return &sorter{f: f, bytesMax: bytesMax, rest: rest, out: bufio.NewWriterSize(pieces{f, rest}, pieceBytes)}
}

// Write implements io.Writer: what comes before the versions.
func (s *sorter) Write(b []byte) (int, error) {
	n, err := s.out.Write(b)
	s.end += int64(n)
	return n, err
}

// add adds a version, which it copies.
func (s *sorter) add(v version) error {
	need := placeBytes + versionBytes + len(v.value)
	if have := len(s.data) + len(s.places)*placeBytes; len(s.places) > 0 && have+need > s.bytesMax {
		if err := s.spill(); err != nil {
			return err
		}
	}
	s.places = append(s.places, place{v.rev.Main, v.rev.Sub, uint32(len(s.data))})
	length := uint32(len(v.value))
	if v.tombstone {
		length |= tombstoneFlag
	}
	at := len(s.data)
	s.data = append(s.data, make([]byte, sumBytes)...)
	s.data = binary.BigEndian.AppendUint64(s.data, uint64(v.rev.Main))
	s.data = binary.BigEndian.AppendUint32(s.data, v.rev.Sub)
	s.data = binary.BigEndian.AppendUint32(s.data, length)
	s.data = append(s.data, v.value...)
	binary.BigEndian.PutUint32(s.data[at:], crc32.Checksum(s.data[at+sumBytes:], castagnoli))
	return nil
}

// sort sorts the run in memory.
func (s *sorter) sort() {
	n := 0
	slices.SortFunc(s.places, func(a, b place) int {
		if n++; n%compareYield == 0 {
			s.rest()
		}
		return compareRevisions(a.rev(), b.rev())
	})
}

// spill writes the run in memory to the file.
func (s *sorter) spill() error {
	s.sort()
	r := bounds{versions: s.end}
	for _, p := range s.places {
		_, _, size := decodeHead(s.data[p.at:])
		if _, err := s.Write(s.data[p.at:][:versionBytes+size]); err != nil {
			return fmt.Errorf("sort versions: %w", err)
		}
	}
	r.heads = s.end
	for _, p := range s.places {
		head := s.data[p.at:][:versionBytes]
		binary.BigEndian.PutUint32(head, crc32.Checksum(head[sumBytes:], castagnoli))
		if _, err := s.Write(head); err != nil {
			return fmt.Errorf("sort versions: %w", err)
		}
	}
	r.end = s.end
	s.runs = append(s.runs, r)
	s.places, s.data = s.places[:0], s.data[:0]
	if cap(s.data) > 2*s.bytesMax {
		s.data = nil
	}
	return nil
}

// decodeHead decodes what comes before the value; size is that of the value.
func decodeHead(b []byte) (rev mvcc.Revision, tombstone bool, size int) {
	b = b[sumBytes:]
	n := binary.BigEndian.Uint32(b[8+4:])
	rev = mvcc.Revision{Main: int64(binary.BigEndian.Uint64(b)), Sub: binary.BigEndian.Uint32(b[8:])}
	return rev, n&tombstoneFlag != 0, int(n &^ uint32(tombstoneFlag))
}

// finish writes what is left, so that all is in the file, and gives the memory back.
func (s *sorter) finish() error {
	if len(s.places) > 0 {
		if err := s.spill(); err != nil {
			return err
		}
	}
	s.data, s.places = nil, nil
	if err := s.out.Flush(); err != nil {
		return fmt.Errorf("sort versions: %w", err)
	}
	return nil
}
