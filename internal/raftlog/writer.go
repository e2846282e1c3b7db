package raftlog

import (
	"fmt"
	"hash/crc32"
)

// What the buffer of a writer holds: more is written in parts, and data that are large from where they lie.
const (
	bufferBytes = 256 << 10
	directBytes = 128 << 10
)

// writer writes records to the end of a segment. It keeps its buffer, of less than twice bufferBytes.
type writer struct {
	buf []byte
	at  int64 // where buf belongs
}

// write writes r, unsynced, and returns where its first entry lies. After an error the segment must not be written to again.
//
// The header is written last when there are several parts: until then nothing there looks like a record.
func (w *writer) write(s *segment, r *record) (entries int64, err error) {
	w.at = s.end
	w.buf = append(w.buf[:0], make([]byte, headerBytes)...)
	w.buf = r.appendFields(w.buf)
	sum := crc32.Checksum(w.buf[headerBytes:], castagnoli)
	entries = s.end + int64(len(w.buf))
	for _, e := range r.entries {
		head := len(w.buf)
		w.buf = appendEntryHead(w.buf, e)
		sum = crc32.Update(sum, castagnoli, w.buf[head:])
		if data := e.GetData(); len(data) < directBytes {
			w.buf = append(w.buf, data...)
		} else if err := w.direct(s, data); err != nil {
			return 0, err
		}
		if len(w.buf) >= bufferBytes {
			if err := w.flush(s); err != nil {
				return 0, err
			}
		}
	}
	length := w.at + int64(len(w.buf)) - s.end - headerBytes
	if length > bodyMax {
		return 0, fmt.Errorf("write %s: a record of %d bytes is too large", s.path, length)
	}
	h := header{body: sum, length: uint32(length), kind: r.kind, seq: s.seq, offset: s.end, witness: s.synced, chain: s.sum}
	if w.at == s.end { // all of it is in the buffer
		h.encode(w.buf)
		err = w.flush(s)
	} else if err = w.flush(s); err == nil {
		var b [headerBytes]byte
		h.encode(b[:])
		err = writeAt(s, b[:], s.end)
	}
	if err != nil {
		return 0, err
	}
	s.end, s.sum = w.at, h.sum
	return entries, nil
}

// direct writes what is in the buffer and then data.
func (w *writer) direct(s *segment, data []byte) error {
	if err := w.flush(s); err != nil {
		return err
	}
	if err := writeAt(s, data, w.at); err != nil {
		return err
	}
	w.at += int64(len(data))
	return nil
}

func (w *writer) flush(s *segment) error {
	if len(w.buf) == 0 {
		return nil
	}
	if err := writeAt(s, w.buf, w.at); err != nil {
		return err
	}
	w.at += int64(len(w.buf))
	w.buf = w.buf[:0]
	return nil
}

func writeAt(s *segment, b []byte, at int64) error {
	if _, err := s.file.WriteAt(b, at); err != nil {
		return fmt.Errorf("write %s: %w", s.path, err)
	}
	return nil
}
