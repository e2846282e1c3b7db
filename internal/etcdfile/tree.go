package etcdfile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// tree writes a B+ tree whose records come in order: leaves as they fill up, and each level above as its own page does. Memory is
// that of one page of each level, and of one record.
type tree struct {
	p      *pages
	levels []*node // the pages that are being filled, the leaf first
	last   []byte  // the last key
}

func newTree(p *pages) *tree { return &tree{p: p, levels: []*node{{kind: pageLeaf}}} }

// cloneTo returns a tree that goes on as this one would, with other pages.
func (t *tree) cloneTo(p *pages) *tree {
	c := &tree{p: p, last: bytes.Clone(t.last)}
	for _, b := range t.levels {
		c.levels = append(c.levels, &node{kind: b.kind, elements: slices.Clone(b.elements), bytes: b.bytes, data: bytes.Clone(b.data)})
	}
	return c
}

// put adds a record, or a bucket. Its limits are bbolt's.
func (t *tree) put(flags uint32, key, value []byte) error {
	return t.putSized(flags, key, value, len(value))
}

// putSized is put with the length of the value, which may be missing where pages are only counted.
func (t *tree) putSized(flags uint32, key, value []byte, size int) error {
	switch {
	case len(key) == 0:
		return bolterrors.ErrKeyRequired
	case len(key) > bolt.MaxKeySize:
		return bolterrors.ErrKeyTooLarge
	case int64(size) > bolt.MaxValueSize:
		return bolterrors.ErrValueTooLarge
	case t.last != nil && bytes.Compare(t.last, key) >= 0:
		return fmt.Errorf("%w: it stands after %x", ErrInvalid, t.last)
	}
	t.last = append(t.last[:0], key...)
	leaf := t.levels[0]
	if len(leaf.elements) > 0 && !leaf.hasRoom(t.p.size, len(key)+size) {
		if err := t.flush(0, len(leaf.elements)); err != nil {
			return err
		}
	}
	leaf.add(element{flags: flags, key: len(key), value: size}, key, value)
	return nil
}

// flush writes the first n elements of a level's page, and enters it in the level above.
func (t *tree) flush(level, n int) error {
	from := t.levels[level]
	page, err := t.p.append(from, n)
	if err != nil {
		return err
	}
	if level+1 == len(t.levels) {
		t.levels = append(t.levels, &node{kind: pageBranch})
	}
	up, key := t.levels[level+1], from.data[:from.elements[0].key]
	// One element stays behind, so that no branch page has fewer than two, as in bbolt.
	if held := len(up.elements) - 1; held >= 2 && !up.hasRoom(t.p.size, len(key)) {
		if err := t.flush(level+1, held); err != nil {
			return err
		}
	}
	up.add(element{key: len(key), page: page}, key, nil)
	from.cut(n)
	return nil
}

// finish writes what is left and returns the number of the root's page.
func (t *tree) finish() (root uint64, err error) {
	for level := 0; ; level++ {
		at := t.levels[level]
		if level+1 == len(t.levels) {
			return t.p.append(at, len(at.elements))
		}
		if err := t.flush(level, len(at.elements)); err != nil {
			return 0, err
		}
	}
}

// node is a page that is being filled.
type node struct {
	kind     uint16
	elements []element
	bytes    int    // of their keys and values
	data     []byte // these; where pages are only counted it lacks the values
}

// element is one of a node: in a leaf a record, in a branch a page and the first key below it.
type element struct {
	flags      uint32
	key, value int // lengths
	page       uint64
}

// bytesOf returns how long the page of the first n elements is.
func (b *node) bytesOf(n int) int {
	bytes := pageHeaderBytes + n*elementBytes
	for _, e := range b.elements[:n] {
		bytes += e.key + e.value
	}
	return bytes
}

// hasRoom tells whether an element with so much data fits into the page.
func (b *node) hasRoom(size, data int) bool {
	n := len(b.elements) + 1
	return n <= math.MaxUint16 && pageHeaderBytes+n*elementBytes+b.bytes+data <= size
}

func (b *node) add(e element, key, value []byte) {
	b.elements = append(b.elements, e)
	b.bytes += e.key + e.value
	b.data = append(append(b.data, key...), value...)
}

// cut removes the first n elements.
func (b *node) cut(n int) {
	data := min(len(b.data), b.bytesOf(n)-pageHeaderBytes-n*elementBytes) // of a leaf that lacks values all goes
	b.elements = append(b.elements[:0], b.elements[n:]...)
	b.data = append(b.data[:0], b.data[data:]...)
	b.bytes = b.bytesOf(len(b.elements)) - pageHeaderBytes - len(b.elements)*elementBytes
	if cap(b.data) > keepBytes {
		b.data = bytes.Clone(b.data) // with an end of its own
	}
}

// appendElement encodes an element whose data begins so many bytes after it.
func (b *node) appendElement(dst []byte, e element, data int) []byte {
	if b.kind == pageBranch {
		dst = binary.NativeEndian.AppendUint32(dst, uint32(data))
		dst = binary.NativeEndian.AppendUint32(dst, uint32(e.key))
		return binary.NativeEndian.AppendUint64(dst, e.page)
	}
	for _, n := range []uint32{e.flags, uint32(data), uint32(e.key), uint32(e.value)} {
		dst = binary.NativeEndian.AppendUint32(dst, n)
	}
	return dst
}
