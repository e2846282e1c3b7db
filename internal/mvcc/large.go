package mvcc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// largeMin is the length of a value from which on its version lies, whole, in a record of its own, so that compactions need not carry
// it along with its key (docs/format/state.md, "Large values"). It is part of the format and must never be lowered: a compaction looks
// for such a record only where a version was as large.
const largeMin = 4096

// stubMark begins a stub. It is the tag of a field that no KeyValue has.
const stubMark = 7 << 3

var errBadStub = errors.New("malformed stub of a large value")

// record is what data holds of a version: nothing for a tombstone, the KeyValue, or a stub of a KeyValue that lies elsewhere because its
// value is large. Only values.whole makes a KV of it: so a KV is never a stub.
type record struct{ stored []byte }

// live tells whether it is a version that is no tombstone.
func (r record) live() bool { return len(r.stored) > 0 }

func (r record) isStub() bool { return len(r.stored) > 0 && r.stored[0] == stubMark }

// fields decodes what is there, all but the value of a stub, and takes damage as KV.fields does. size is the length of the whole KeyValue.
func (r record) fields() (f fields, size int) {
	if r.isStub() {
		s, _ := parseStub(r.stored)
		return s.fields, s.size
	}
	return KV{r.stored}.fields(), len(r.stored)
}

// size returns the length of the whole KeyValue, 0 for a tombstone.
func (r record) size() int {
	if r.isStub() {
		s, _ := parseStub(r.stored)
		return s.size
	}
	return len(r.stored)
}

// standsAt refuses the stub of a version that belongs under another key of data: what it names would fit to it, and be answered as this one.
func (r record) standsAt(user []byte, main int64, sub uint32) error {
	if !r.isStub() {
		return nil
	}
	s, err := parseStub(r.stored)
	if err == nil && (!bytes.Equal(s.key, user) || s.mod != main || s.sub != sub) {
		err = fmt.Errorf("the version is that of %q at %d/%d", s.key, s.mod, s.sub)
	}
	if err != nil {
		return fmt.Errorf("%w: data of %q at %d/%d: %w; %s", storage.ErrCorrupt, user, main, sub, err, storage.Remedy)
	}
	return nil
}

// appendWithoutValue is KV.AppendWithoutValue.
func (r record) appendWithoutValue(dst []byte, withLease bool) []byte {
	f, _ := r.fields()
	return f.appendWithoutValue(dst, withLease)
}

// lean returns the version without reading anything: a large value is not in it.
func (r record) lean() KV {
	if r.isStub() {
		return KV{r.appendWithoutValue(nil, true)}
	}
	return KV{r.stored}
}

// stub is what data holds of a version whose value is large: everything but the value.
type stub struct {
	fields
	size int    // of the whole KeyValue
	sub  uint32 // the version's sub-revision: with that and the main one it is found
}

// parseStub decodes a stub in its canonical form.
func parseStub(b []byte) (s stub, err error) {
	if len(b) == 0 || b[0] != stubMark {
		return s, fmt.Errorf("%w: it does not begin as one", errBadStub)
	}
	size, n := uvarint(b[1:])
	if n <= 0 || n != uvarintSize(size) || size > math.MaxInt32 {
		return s, fmt.Errorf("%w: its size", errBadStub)
	}
	b = b[1+n:]
	sub, n := uvarint(b)
	if n <= 0 || n != uvarintSize(sub) || sub >= maxSub {
		return s, fmt.Errorf("%w: its sub-revision", errBadStub)
	}
	s.size, s.sub = int(size), uint32(sub)
	if s.fields, err = parseFields(b[n:]); err != nil {
		return s, fmt.Errorf("%w: %w", errBadStub, err)
	}
	without := s.fields.size()
	switch {
	case len(s.value) > 0 || without != len(b)-n:
		return s, fmt.Errorf("%w: not in canonical form", errBadStub)
	case len(s.key) == 0 || s.mod <= 0 || s.size < without+bytesSize(largeMin):
		return s, fmt.Errorf("%w: it is none of a large value", errBadStub)
	}
	return s, nil
}

func (s *stub) encodedSize() int {
	return 1 + uvarintSize(uint64(s.size)) + uvarintSize(uint64(s.sub)) + s.fields.size()
}

func (s *stub) append(dst []byte) []byte {
	dst = binary.AppendUvarint(append(dst, stubMark), uint64(s.size))
	dst = binary.AppendUvarint(dst, uint64(s.sub))
	return s.fields.append(dst)
}

// of tells whether raw is the KeyValue that this is a stub of.
func (s *stub) of(raw []byte) bool {
	f, err := parseFields(raw)
	return err == nil && f.size() == len(raw) && len(raw) == s.size && len(f.value) >= largeMin &&
		bytes.Equal(f.key, s.key) && f.create == s.create && f.mod == s.mod && f.version == s.version && f.lease == s.lease
}

// stubOf returns the stub that data is to hold of a version instead of raw, if its value is large. A version that says it is of
// another key or revision than it stands under, as only damaged files have, stays as it is.
func stubOf(key []byte, rev Revision, raw []byte) (s stub, ok bool) {
	if len(raw)-len(key) < largeMin {
		return stub{}, false
	}
	f, err := parseFields(raw)
	if err != nil || len(f.value) < largeMin || f.size() != len(raw) || f.mod != rev.Main || !bytes.Equal(f.key, key) || rev.Sub >= maxSub {
		return stub{}, false
	}
	f.value = nil
	return stub{fields: f, size: len(raw), sub: rev.Sub}, true
}

// mayBeLarge tells whether a version of key may lie in a record of its own, by the length of its KeyValue.
func mayBeLarge(key []byte, size int) bool { return size-len(key) >= largeMin }

// values reads large values in the state that an iterator shows. The zero value is ready.
type values struct {
	it   *storage.Iterator // over the large values, opened when first needed
	key  []byte
	stub []byte // a copy
}

// whole returns the version of a record, valid until the next call and as long as the record is. of shows the state that the record is
// from; it stays where it is.
func (v *values) whole(r record, of *storage.Iterator) (KV, error) {
	if !r.isStub() {
		return KV{r.stored}, nil
	}
	if v.it == nil {
		it, err := cloneOf(of.Clone)
		if err != nil {
			return KV{}, fmt.Errorf("opening an iterator over large values: %w", err)
		}
		it.SetBounds(largeLower, largeUpper)
		v.it = it
	}
	return v.read(v.it, r)
}

// wholeBy is whole by the iterator that the record is from, which is moved. REQUIRES: its bounds hold all large values.
func (v *values) wholeBy(r record, by *storage.Iterator) (KV, error) {
	if !r.isStub() {
		return KV{r.stored}, nil
	}
	v.stub = append(v.stub[:0], r.stored...)
	return v.read(by, record{v.stub})
}

// read reads the version of a stub. REQUIRES: that is not in memory of the iterator. What does not fit to the stub is never given out.
func (v *values) read(it *storage.Iterator, r record) (KV, error) {
	s, err := parseStub(r.stored)
	if err != nil {
		return KV{}, fmt.Errorf("%w: %w (%x)", storage.ErrCorrupt, err, r.stored)
	}
	v.key = storage.AppendRevKey(v.key[:0], storage.SpaceLarge, s.mod, s.sub)
	if !it.SeekPrefixGE(v.key) || !bytes.Equal(it.Key(), v.key) {
		if err := it.Error(); err != nil {
			return KV{}, fmt.Errorf("reading a large value: %w", err)
		}
		return KV{}, fmt.Errorf("%w: the large value of revision %d/%d is missing; %s", storage.ErrCorrupt, s.mod, s.sub, storage.Remedy)
	}
	raw, err := it.ValueAndErr()
	if err != nil {
		return KV{}, fmt.Errorf("reading a large value: %w", err)
	}
	if !s.of(raw) {
		return KV{}, fmt.Errorf("%w: the large value of revision %d/%d is that of another version; %s", storage.ErrCorrupt, s.mod, s.sub, storage.Remedy)
	}
	return KV{raw}, nil
}

func (v *values) close() error {
	if v.it == nil {
		return nil
	}
	err := v.it.Close()
	v.it = nil
	return err
}

// Loader loads versions for readers that walk a database by themselves, all from iterators over one state. The zero value is ready; it
// must be closed before the database.
type Loader struct{ values values }

// Load returns the version that data has where it stands, the zero KV for a tombstone, and whether it lay in a record of its own. The KV
// is valid until the next call or it moves. Errors wrap storage.ErrCorrupt when a large value is not what it must be.
func (l *Loader) Load(it *storage.Iterator) (kv KV, large bool, err error) {
	stored, err := it.ValueAndErr()
	if err != nil {
		return KV{}, false, fmt.Errorf("reading a version: %w", err)
	}
	r := record{stored}
	if !r.live() {
		return KV{}, false, nil
	}
	user, main, sub, _ := storage.DecodeDataKey(it.Key())
	if err := r.standsAt(user, main, sub); err != nil {
		return KV{}, true, err
	}
	kv, err = l.values.whole(r, it)
	return kv, r.isStub(), err
}

// Close gives back what Load has opened.
func (l *Loader) Close() error {
	if err := l.values.close(); err != nil {
		return fmt.Errorf("closing an iterator over large values: %w", err)
	}
	return nil
}

// StoreVersion puts a version, nothing for a tombstone, under its key in data into a batch, in the form that this release writes. It
// refuses what could be taken for the stub of another record.
func StoreVersion(b *storage.Batch, dataKey, raw []byte) error {
	if (record{raw}).isStub() {
		return fmt.Errorf("%w: not in canonical form", errBadKeyValue)
	}
	user, main, sub, ok := storage.DecodeDataKey(dataKey)
	if !ok {
		return fmt.Errorf("%w: data key %x", storage.ErrCorrupt, dataKey)
	}
	return writeData(b, user, Revision{main, sub}, raw)
}
