package backup

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
)

// ErrInvalid is wrapped by errors about a file that is damaged, or is not what its name says.
var ErrInvalid = errors.New("backup: damaged or not a backup")

const (
	magic         = "ASHLARB1"
	streamVersion = 1
	// blockBytes is the size at which a block is closed; one record may make it larger, as large as a request may be.
	blockBytes    = 1 << 20
	blockBytesMax = 1<<31 - 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is one record of a database.
type record struct {
	bucket     string
	key, value []byte
}

// streamWriter writes records to a file of an increment.
type streamWriter struct {
	f       *os.File
	out     *bufio.Writer
	payload []byte
	records uint64
}

func createStream(path string) (*streamWriter, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	w := &streamWriter{f: f, out: bufio.NewWriterSize(f, 64<<10)}
	_, err = w.out.Write(binary.BigEndian.AppendUint32([]byte(magic), streamVersion))
	return w, err
}

// put adds a record; it keeps none of its bytes.
func (w *streamWriter) put(r record) error {
	for _, part := range [][]byte{[]byte(r.bucket), r.key, r.value} {
		w.payload = binary.AppendUvarint(w.payload, uint64(len(part)))
		w.payload = append(w.payload, part...)
	}
	w.records++
	if len(w.payload) >= blockBytes {
		return w.flush()
	}
	return nil
}

func (w *streamWriter) flush() error {
	if len(w.payload) == 0 {
		return nil
	}
	head := binary.BigEndian.AppendUint32(nil, uint32(len(w.payload)))
	head = binary.BigEndian.AppendUint32(head, crc32.Checksum(w.payload, castagnoli))
	_, err := w.out.Write(head)
	if err == nil {
		_, err = w.out.Write(w.payload)
	}
	w.payload = w.payload[:0]
	return err
}

// finish ends the stream, syncs and closes the file.
func (w *streamWriter) finish() error {
	err := w.flush()
	if err == nil {
		end := binary.BigEndian.AppendUint64(make([]byte, 4), w.records)
		_, err = w.out.Write(binary.BigEndian.AppendUint32(end, crc32.Checksum(end[4:], castagnoli)))
	}
	if err == nil {
		err = w.out.Flush()
	}
	if err == nil {
		err = w.f.Sync()
	}
	return errors.Join(err, w.f.Close())
}

// streamReader reads the records of a file of an increment, one after the other.
type streamReader struct {
	path    string
	f       io.Closer
	in      *bufio.Reader
	payload []byte // what of the block is not read yet
	block   []byte
	records uint64
	ended   bool
}

func openStream(path string) (*streamReader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r := &streamReader{path: path, f: f, in: bufio.NewReaderSize(f, 64<<10)}
	if err := r.head(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return r, nil
}

func (r *streamReader) close() error { return r.f.Close() }

func (r *streamReader) invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrInvalid, r.path, fmt.Sprintf(format, args...))
}

func (r *streamReader) head() error {
	var head [len(magic) + 4]byte
	if err := r.full(head[:]); err != nil {
		return err
	}
	if string(head[:len(magic)]) != magic {
		return r.invalid("it does not begin with %s", magic)
	}
	if v := binary.BigEndian.Uint32(head[len(magic):]); v != streamVersion {
		return r.invalid("it has version %d, and this release knows %d", v, streamVersion)
	}
	return nil
}

// full fills b; an early end is damage.
func (r *streamReader) full(b []byte) error {
	_, err := io.ReadFull(r.in, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return r.invalid("it ends early")
	}
	return err
}

// next returns the next record, whose bytes are valid until the call after it; ok is false after the last.
func (r *streamReader) next() (rec record, ok bool, err error) {
	for len(r.payload) == 0 {
		if r.ended {
			return record{}, false, nil
		}
		if err := r.readBlock(); err != nil {
			return record{}, false, err
		}
	}
	var parts [3][]byte
	for i := range parts {
		n, w := binary.Uvarint(r.payload)
		if w <= 0 || n > uint64(len(r.payload)-w) {
			return record{}, false, r.invalid("a record is cut short")
		}
		parts[i], r.payload = r.payload[w:w+int(n)], r.payload[w+int(n):]
	}
	r.records++
	return record{string(parts[0]), parts[1], parts[2]}, true, nil
}

func (r *streamReader) readBlock() error {
	var head [8]byte
	if err := r.full(head[:4]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 {
		return r.end()
	}
	if n > blockBytesMax {
		return r.invalid("a block of %d bytes", n)
	}
	if err := r.full(head[4:]); err != nil {
		return err
	}
	// Memory is taken as the bytes come, not on the word of the file.
	r.block = r.block[:0]
	for len(r.block) < int(n) {
		at := len(r.block)
		step := min(int(n)-at, blockBytes)
		r.block = slices.Grow(r.block, step)[:at+step]
		if err := r.full(r.block[at:]); err != nil {
			return err
		}
	}
	if crc32.Checksum(r.block, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return r.invalid("the checksum of a block differs")
	}
	r.payload = r.block
	return nil
}

func (r *streamReader) end() error {
	var tail [12]byte
	if err := r.full(tail[:]); err != nil {
		return err
	}
	r.ended = true
	if crc32.Checksum(tail[:8], castagnoli) != binary.BigEndian.Uint32(tail[8:]) {
		return r.invalid("the checksum of its end differs")
	}
	if n := binary.BigEndian.Uint64(tail[:8]); n != r.records {
		return r.invalid("it holds %d records and says %d", r.records, n)
	}
	if _, err := r.in.ReadByte(); !errors.Is(err, io.EOF) {
		return r.invalid("something stands behind its end")
	}
	return nil
}
