package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"strconv"
	"strings"
)

// The layout of Pebble's write-ahead log files (package record of Pebble): blocks
// of 32 KiB filled with chunks; a chunk has a header of checksum, length, type and,
// by type, log number and synced offset, and does not cross a block's end.
const (
	walBlock            = 32 << 10
	walLegacyHeader     = 7
	walRecyclableHeader = walLegacyHeader + 4
	walSyncHeader       = walRecyclableHeader + 8

	// Types come in fours: full, first, middle and last chunk of a record.
	walRecyclableFirst = 5
	walSyncFirst       = 9
	walSyncLast        = 12
)

var walTable = crc32.MakeTable(crc32.Castagnoli)

// walChecksum is Pebble's masked CRC-32C.
func walChecksum(b []byte) uint32 {
	c := crc32.Checksum(b, walTable)
	return (c>>15 | c<<17) + 0xa282ead8
}

// checkWALs looks through every write-ahead log file of a database that is about to
// be opened, and returns an error when one of them must have been damaged: a record
// is bad, and a later one in the same file carries the witness that it had been
// synced (witness.go). Pebble's own reader has such a proof in its chunks, but its
// offsets leave bytes out, it looks for them only from the next block on, and it believes
// a chunk's log number before its checksum, so a flipped bit could end a log silently.
// A bad chunk without proof is a torn tail; Pebble cuts it off.
func checkWALs(fs FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, ".log")
		if !ok {
			continue
		}
		number, err := strconv.ParseUint(digits, 10, 64)
		if err != nil {
			continue // not one of Pebble's
		}
		if err := checkWAL(fs, filepath.Join(dir, name), uint32(number)); err != nil {
			return err
		}
	}
	return nil
}

func checkWAL(fs FS, path string, number uint32) (err error) {
	f, err := fs.Open(path)
	if err != nil {
		return fmt.Errorf("check the log file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := walWalker{number: number, bad: -1}
	if err := w.walk(f); err != nil {
		return fmt.Errorf("check the log file %s: %w", path, err)
	}
	if w.bad >= 0 && w.synced > w.whole {
		return Corruptf(path, "the chunk at offset %d is damaged, and a later record says that it had been synced", w.bad)
	}
	return nil
}

// walWalker reads one file. After walk, bad is the offset of the first chunk that is
// not good, or where the file ends.
type walWalker struct {
	number uint32
	bad    int64
	ended  bool // bad is an end that the writer marked

	// Sequence numbers, the next free one each: after the last record that is whole
	// and has only whole ones before it, or else where the first record begins; of the
	// record being read; and the highest that any good record says was synced before it.
	whole, record, synced uint64
}

func (w *walWalker) walk(r io.Reader) error {
	var block [walBlock]byte
	for start := int64(0); ; start += walBlock {
		n, err := io.ReadFull(r, block[:])
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		w.block(block[:n], start)
		if n < walBlock {
			if w.bad < 0 {
				w.bad = start + int64(n)
			}
			return nil
		}
	}
}

// block walks the chunks of one block. Behind the first bad chunk of the file its own
// length says nothing any more, so the rest of that block is searched for good
// ones byte by byte; later blocks begin with a chunk.
func (w *walWalker) block(b []byte, start int64) {
	searching := false
	for i := 0; i+walRecyclableHeader <= len(b); {
		size, good := w.chunk(b[i:])
		switch {
		case good:
			i += size
			continue
		case !searching && w.fill(b[i:]):
			return
		}
		if w.bad < 0 {
			w.bad, w.ended = start+int64(i), w.trailer(b[i:])
			searching = !w.ended
		}
		if !searching {
			return
		}
		i++
	}
}

// chunk says how long the chunk at the head of b is, and whether it is one of this
// file with a right checksum. It notes what a good one says.
func (w *walWalker) chunk(b []byte) (size int, good bool) {
	kind := b[6]
	header := walRecyclableHeader
	switch {
	case kind >= walSyncFirst && kind <= walSyncLast:
		header = walSyncHeader
	case kind < walRecyclableFirst || kind > walSyncLast:
		return 0, false
	}
	size = header + int(binary.LittleEndian.Uint16(b[4:]))
	if size > len(b) || binary.LittleEndian.Uint32(b[7:]) != w.number ||
		binary.LittleEndian.Uint32(b) != walChecksum(b[6:size]) {
		return 0, false
	}
	w.note((kind-walRecyclableFirst)%4, b[header:size])
	return size, true
}

// The place of a chunk in its record, in the order of Pebble's types.
const (
	walFull = iota
	walFirst
	walMiddle
	walLast
)

// note takes in a good chunk.
func (w *walWalker) note(place byte, payload []byte) {
	if place == walFull || place == walFirst {
		if first, next, synced, ok := readWitness(payload); ok {
			w.record = next
			if w.bad < 0 && w.whole == 0 {
				w.whole = first // what was synced before is in earlier files, and says nothing of this record
			}
			// Where the file begins with what is bad, nothing says which sequence numbers that has: it was
			// synced for sure only if everything before this record was.
			if w.bad < 0 || w.whole > 0 || synced >= first {
				w.synced = max(w.synced, synced)
			}
		}
	}
	if w.bad < 0 && (place == walFull || place == walLast) {
		w.whole = max(w.whole, w.record)
	}
}

// fill says whether b, the rest of a block, is what the writer leaves when no
// further chunk fits in it.
func (w *walWalker) fill(b []byte) bool {
	if len(b) >= walSyncHeader {
		return false
	}
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// trailer says whether b begins with the mark that a writer leaves at a file's end:
// an empty chunk, all zeros but for its type and the next log number.
func (w *walWalker) trailer(b []byte) bool {
	return binary.LittleEndian.Uint32(b) == 0 && binary.LittleEndian.Uint16(b[4:]) == 0 &&
		b[6] == walRecyclableFirst && binary.LittleEndian.Uint32(b[7:]) == w.number+1
}
