package etcdfile

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/progress"
)

// The types of records.
const (
	walIdentity  = 1
	walEntry     = 2
	walHardState = 3
	walCRC       = 4
	walSnapshot  = 5
)

const (
	walFrameBytes = 8
	// walSector is what a disk writes at once: a torn record has sectors that were never written.
	walSector = 512
	// walRecordMax bounds a record, whatever the size of its file.
	walRecordMax    = 1 << 30
	walBufferBytes  = 128 << 10
	walLengthMask   = 1<<56 - 1
	walPaddingShift = 56
	walPaddingMask  = 7
)

// errTorn says that a record was not written whole.
var errTorn = errors.New("a record is cut off")

// walReading is a log while it is read.
type walReading struct {
	to              WALReader
	from            *bufio.Reader
	seq             uint64
	crc             uint32 // over all data so far
	begun           bool   // a checksum was read
	named           bool   // and then, in the same file, whose it is
	term, commit    uint64 // of the last hard state
	identified      bool
	member, cluster uint64
}

// file reads one file; in the last one a torn record is the end.
func (w *walReading) file(ctx context.Context, path string, last bool) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read the write-ahead log: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read the write-ahead log: %w", err)
	}
	if w.from == nil {
		w.from = bufio.NewReaderSize(nil, walBufferBytes)
	}
	ctx, line := progress.Begin(ctx, "reading "+filepath.Base(path), info.Size())
	defer line.End()
	w.from.Reset(reading{ctx, f})
	r := &walFile{from: w.from, size: info.Size()}
	for n := 1; ; n++ {
		if n%contextEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		at := r.at
		rec, more, err := r.next()
		if err == nil && more {
			err = w.take(rec)
		}
		if errors.Is(err, errTorn) && last {
			return nil
		}
		var damage damaged
		switch {
		case errors.Is(err, errTorn) || errors.As(err, &damage):
			return fmt.Errorf("%w: %s, offset %d: %w", ErrCorruptWAL, path, at, err)
		case err != nil:
			return fmt.Errorf("%s, offset %d: %w", path, at, err)
		case !more:
			return nil
		}
	}
}

// damaged says what is wrong with a record.
type damaged struct{ what string }

func (d damaged) Error() string { return d.what }

func damagedf(format string, args ...any) error { return damaged{fmt.Sprintf(format, args...)} }

// walFile reads the records of one file.
type walFile struct {
	from *bufio.Reader
	at   int64
	size int64
	body []byte
}

// walRecord is one record. Its data are valid until the next one is read.
type walRecord struct {
	kind    uint64
	crc     uint32
	data    []byte
	tornOdd bool // a sector of it is zero: what is wrong with it may come of a crash
}

// next reads a record; more is false at the end of the file, or where it was never written.
func (f *walFile) next() (rec walRecord, more bool, err error) {
	var frame [walFrameBytes]byte
	n, err := io.ReadFull(f.from, frame[:])
	if errors.Is(err, io.EOF) {
		return rec, false, nil
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		if binary.LittleEndian.Uint64(frame[:]) == 0 {
			return rec, false, nil
		}
		return rec, false, errTorn
	}
	if err != nil {
		return rec, false, err
	}
	length := binary.LittleEndian.Uint64(frame[:])
	if length == 0 {
		return rec, false, nil
	}
	size, padding := int64(length&walLengthMask), int64(0)
	if length>>63 != 0 {
		padding = int64(length>>walPaddingShift) & walPaddingMask
	}
	start := f.at + int64(n)
	if size > f.size-start-padding {
		return rec, false, errTorn
	}
	if size > walRecordMax {
		return rec, false, damagedf("a record of %d bytes, more than %d", size, walRecordMax)
	}
	if int64(cap(f.body)) < size+padding {
		f.body = make([]byte, size+padding)
	}
	f.body = f.body[:size+padding]
	if _, err := io.ReadFull(f.from, f.body); err != nil {
		return rec, false, err
	}
	f.at = start + size + padding
	rec, err = parseWALRecord(f.body[:size])
	rec.tornOdd = hasZeroSector(f.body, start)
	if err != nil && rec.tornOdd {
		err = errTorn
	}
	return rec, true, err
}

// hasZeroSector tells whether a part of b, which stands at an offset of its file, is zero that lies in one sector.
func hasZeroSector(b []byte, offset int64) bool {
	for len(b) > 0 {
		n := min(int64(len(b)), walSector-offset%walSector)
		if allZero(b[:n]) {
			return true
		}
		b, offset = b[n:], offset+n
	}
	return false
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// parseWALRecord parses a record: 1 type, 2 checksum, 3 data.
func parseWALRecord(b []byte) (rec walRecord, err error) {
	err = eachField(b, func(field protowire.Number, n uint64, data []byte) {
		switch field {
		case 1:
			rec.kind = n
		case 2:
			rec.crc = uint32(n)
		case 3:
			rec.data = data
		}
	})
	return rec, err
}

// eachField calls fn with each field of a message that is a number or bytes.
func eachField(b []byte, fn func(field protowire.Number, n uint64, data []byte)) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return damagedf("it cannot be decoded: %v", protowire.ParseError(n))
		}
		b = b[n:]
		var number uint64
		var data []byte
		switch kind {
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			data, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return damagedf("it cannot be decoded: %v", protowire.ParseError(n))
		}
		b = b[n:]
		fn(field, number, data)
	}
	return nil
}

// take checks a record and gives it on.
func (w *walReading) take(rec walRecord) error {
	if rec.kind == walCRC {
		if w.begun && rec.crc != w.crc {
			return damagedf("the file begins with the checksum %08x, the one before it ends with %08x", rec.crc, w.crc)
		}
		w.crc, w.begun, w.named = rec.crc, true, false
		return nil
	}
	if !w.begun {
		return damagedf("the file does not begin with a checksum")
	}
	sum := crc32.Update(w.crc, castagnoli, rec.data)
	if sum != rec.crc {
		if rec.tornOdd {
			return errTorn
		}
		return damagedf("the checksum is %08x and should be %08x", sum, rec.crc)
	}
	w.crc = sum
	// The checksum leaves the type out: what can be checked of it is.
	if !w.named && rec.kind != walIdentity {
		return damagedf("the file does not say whose it is before a record of type %d", rec.kind)
	}
	switch rec.kind {
	case walIdentity:
		w.named = true
		return w.identity(rec.data)
	case walEntry:
		return decodeTo(rec.data, &raftpb.Entry{}, w.to.Entry)
	case walHardState:
		return decodeTo(rec.data, &raftpb.HardState{}, w.hardState)
	case walSnapshot:
		return w.snapshot(rec.data)
	}
	return damagedf("a record of type %d is not known", rec.kind)
}

// decodeTo gives a decoded message to a function that may be nil.
func decodeTo[M proto.Message](data []byte, m M, to func(M) error) error {
	if to == nil {
		return nil
	}
	if err := proto.Unmarshal(data, m); err != nil {
		return damagedf("it cannot be decoded: %v", err)
	}
	return to(m)
}

// hardState gives a hard state on, whose numbers only grow.
func (w *walReading) hardState(hs *raftpb.HardState) error {
	if hs.GetTerm() < w.term || hs.GetCommit() < w.commit {
		return damagedf("a hard state of term %d and commit %d follows one of %d and %d", hs.GetTerm(), hs.GetCommit(), w.term, w.commit)
	}
	w.term, w.commit = hs.GetTerm(), hs.GetCommit()
	if w.to.HardState == nil {
		return nil
	}
	return w.to.HardState(hs)
}

func (w *walReading) identity(data []byte) error {
	var member, cluster uint64
	err := eachField(data, func(field protowire.Number, n uint64, _ []byte) {
		switch field {
		case 1:
			member = n
		case 2:
			cluster = n
		}
	})
	if err != nil {
		return err
	}
	if w.identified && (member != w.member || cluster != w.cluster) {
		return damagedf("it is of member %x of cluster %x, the records before are of %x of %x", member, cluster, w.member, w.cluster)
	}
	w.member, w.cluster, w.identified = member, cluster, true
	if w.to.Identity == nil {
		return nil
	}
	return w.to.Identity(member, cluster)
}

func (w *walReading) snapshot(data []byte) error {
	if w.to.Snapshot == nil {
		return nil
	}
	var s WALSnapshot
	var conf []byte
	err := eachField(data, func(field protowire.Number, n uint64, b []byte) {
		switch field {
		case 1:
			s.Index = n
		case 2:
			s.Term = n
		case 3:
			conf = b
		}
	})
	if err != nil {
		return err
	}
	if conf != nil {
		s.ConfState = &raftpb.ConfState{}
		if err := proto.Unmarshal(conf, s.ConfState); err != nil {
			return damagedf("its configuration cannot be decoded: %v", err)
		}
	}
	return w.to.Snapshot(s)
}
