package etcdfile

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"runtime"
	"slices"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// Bounds of a sorter's memory: that of a run, unless a test has another; that of all buffers from which runs are merged; and
// the least and the most of one of these. So it is 24 MiB for a state of up to 32 GiB, and 1/2,000 more of what is above.
const (
	runBytes      = 8 << 20
	mergeBytes    = 16 << 20
	mergeBytesMin = 4 << 10
	mergeBytesMax = 128 << 10
)

// compareYield is after how many comparisons sorting lets others run, as giveWay does.
const compareYield = 8 << 10

// In the file a version is a CRC-32C of all that follows, its revision, the length of its value, whose highest bit marks a tombstone,
// and the value.
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
}

// sorter puts versions in order of their revisions. Runs of them, each in order, go to a file, from which they are merged; what one
// run holds needs no file. It belongs to one goroutine.
type sorter struct {
	path     string
	bytesMax int    // of a run; one version alone may be larger
	rest     func() // lets others run

	data   []byte  // the run that is being filled
	places []place // its versions

	file *os.File // nil as long as there is one run
	out  *bufio.Writer
	end  int64
	runs []*run
}

// place is where in the data a version is.
type place struct {
	main    int64
	sub, at uint32
}

func (p place) rev() mvcc.Revision { return mvcc.Revision{Main: p.main, Sub: p.sub} }

func compareRevisions(a, b mvcc.Revision) int {
	return cmp.Or(cmp.Compare(a.Main, b.Main), cmp.Compare(a.Sub, b.Sub))
}

func newSorter(path string, bytesMax int) *sorter {
	return &sorter{path: path, bytesMax: bytesMax, rest: runtime.Gosched}
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
	if s.file == nil {
		f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("make a file to sort versions: %w", err)
		}
		s.file, s.out = f, bufio.NewWriterSize(pieces{f, s.rest}, pieceBytes)
	}
	s.sort()
	from := s.end
	for _, p := range s.places {
		_, rest := decodeVersion(s.data[p.at:])
		whole := s.data[p.at : len(s.data)-len(rest)]
		if _, err := s.out.Write(whole); err != nil {
			return fmt.Errorf("sort versions: %w", err)
		}
		s.end += int64(len(whole))
	}
	s.runs = append(s.runs, &run{f: s.file, at: from, end: s.end, punched: from})
	s.places, s.data = s.places[:0], s.data[:0]
	if cap(s.data) > 2*s.bytesMax {
		s.data = nil
	}
	return nil
}

// decodeVersion splits what add has appended.
func decodeVersion(b []byte) (v version, rest []byte) {
	var length int
	v.rev, v.tombstone, length = decodeHead(b)
	end := versionBytes + length
	v.value = b[versionBytes:end]
	return v, b[end:]
}

// decodeHead decodes what comes before the value; length is that of the value.
func decodeHead(b []byte) (rev mvcc.Revision, tombstone bool, length int) {
	b = b[sumBytes:]
	n := binary.BigEndian.Uint32(b[8+4:])
	rev = mvcc.Revision{Main: int64(binary.BigEndian.Uint64(b)), Sub: binary.BigEndian.Uint32(b[8:])}
	return rev, n&tombstoneFlag != 0, int(n &^ uint32(tombstoneFlag))
}

// each calls fn for every version, in order, once. The value is fn's only until it returns.
func (s *sorter) each(fn func(version) error) error {
	if s.file == nil {
		s.sort()
		for _, p := range s.places {
			v, _ := decodeVersion(s.data[p.at:])
			if err := fn(v); err != nil {
				return err
			}
		}
		return nil
	}
	if err := s.spill(); err != nil {
		return err
	}
	if err := s.out.Flush(); err != nil {
		return fmt.Errorf("sort versions: %w", err)
	}
	s.data, s.places, s.out = nil, nil, nil
	return merge(s.runs, fn)
}

// close removes the file.
func (s *sorter) close() error {
	if s.file == nil {
		return nil
	}
	return errors.Join(Empty(s.file, s.end, s.rest), s.file.Close(), os.Remove(s.path))
}
