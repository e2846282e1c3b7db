package etcdfile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"slices"
)

// bbolt's layout of a file, version 2 (docs/format/etcd-snapshot.md). Numbers stand in the machine's order of bytes.
const (
	pageHeaderBytes = 8 + 2 + 2 + 4 // number, kind, elements, pages that follow and belong to it
	elementBytes    = 16
	metaMagic       = 0xED0CDAED
	metaVersion     = 2
	firstPage       = 2 // after two of kind pageMeta

	pageBranch   = 0x01
	pageLeaf     = 0x02
	pageMeta     = 0x04
	pageFreelist = 0x10

	leafRecord = 0 // flags of a leaf's element
	leafBucket = 1
)

// keepBytes is the largest buffer that is kept for the next page.
const keepBytes = 1 << 20

// pages writes the pages of a file from the third on, each once and for ever; the two before name some of them. It belongs to one goroutine.
type pages struct {
	out  io.Writer // nil: they are only counted
	size int       // of a page
	next uint64    // the number of the next page
	page []byte    // the page that is being encoded
}

func newPages(out io.Writer) *pages { return &pages{out: out, size: os.Getpagesize(), next: firstPage} }

// append writes the page of the first n of the node's elements and returns its number.
func (p *pages) append(b *node, n int) (number uint64, err error) {
	number = p.next
	bytes := b.bytesOf(n)
	pages := (bytes + p.size - 1) / p.size
	if p.out == nil {
		p.next += uint64(pages)
		return number, nil
	}
	at := p.begin(number, b.kind, n, pages)
	data := pageHeaderBytes + n*elementBytes
	for i, e := range b.elements[:n] {
		element := pageHeaderBytes + i*elementBytes
		at = b.appendElement(at, e, data-element)
		data += e.key + e.value
	}
	at = append(at, b.data[:data-pageHeaderBytes-n*elementBytes]...)
	return number, p.write(at, pages)
}

// begin returns the header of a page.
func (p *pages) begin(number uint64, kind uint16, elements, pages int) []byte {
	at := binary.NativeEndian.AppendUint64(p.page[:0], number)
	at = binary.NativeEndian.AppendUint16(at, kind)
	at = binary.NativeEndian.AppendUint16(at, uint16(elements))
	return binary.NativeEndian.AppendUint32(at, uint32(pages-1))
}

// write writes a page, filled up with zeroes.
func (p *pages) write(page []byte, pages int) error {
	page = p.fill(page, pages)
	if p.page = page; cap(page) > keepBytes {
		p.page = nil
	}
	p.next += uint64(pages)
	if p.out == nil {
		return nil
	}
	_, err := p.out.Write(page)
	return err
}

func (p *pages) fill(page []byte, pages int) []byte {
	used := len(page)
	page = slices.Grow(page, pages*p.size-used)[:pages*p.size]
	clear(page[used:])
	return page
}

// plan is what the first two pages say of the others.
type plan struct {
	root, free, end uint64 // the page of the bucket of buckets, that of the free pages, and the number of pages
}

// finish writes the last page: no page is free.
func (p *pages) finish(root uint64) (plan, error) {
	free := p.next
	err := p.write(p.begin(free, pageFreelist, 0, 1), 1)
	return plan{root, free, p.next}, err
}

// bytes returns the size of the file.
func (p *pages) bytes(x plan) int64 { return int64(x.end) * int64(p.size) }

// heads returns the two pages that the file begins with.
func (p *pages) heads(x plan) (both []byte) {
	for i := range uint64(firstPage) {
		page := p.begin(i, pageMeta, 0, 1)
		for _, n := range []uint32{metaMagic, metaVersion, uint32(p.size), 0} {
			page = binary.NativeEndian.AppendUint32(page, n)
		}
		// The root and its sequence, the list of free pages, the end, the transaction: the later one counts.
		for _, n := range []uint64{x.root, 0, x.free, x.end, i} {
			page = binary.NativeEndian.AppendUint64(page, n)
		}
		sum := fnv.New64a()
		_, _ = sum.Write(page[pageHeaderBytes:]) // a hash takes everything
		both = append(both, p.fill(binary.NativeEndian.AppendUint64(page, sum.Sum64()), 1)...)
	}
	return both
}

// pageFile is a file that pages are written to as they come: what the first two say is written last.
type pageFile struct {
	*writer
	f   *os.File
	out *bufio.Writer
}

// createPages makes a database of no buckets at path, which must be empty or not exist. rest is called after each piece that is written to it.
func createPages(path string, rest func()) (_ *pageFile, err error) {
	f, err := createEmpty(path)
	if err != nil {
		return nil, err
	}
	out := bufio.NewWriterSize(pieces{f, rest}, pieceBytes)
	p := newPages(out)
	if _, err := out.Write(make([]byte, firstPage*p.size)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &pageFile{newWriter(p), f, out}, nil
}

// createEmpty opens a file for writing, which must be empty or not exist.
func createEmpty(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != 0 {
		err = fmt.Errorf("%s: %w", path, os.ErrExist)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// finish writes what is left and the two pages that the file begins with, and returns the file's size.
func (p *pageFile) finish() (size int64, err error) {
	x, err := p.writer.finish()
	if err != nil {
		return 0, err
	}
	if err := p.out.Flush(); err != nil {
		return 0, err
	}
	if _, err := p.f.WriteAt(p.p.heads(x), 0); err != nil {
		return 0, err
	}
	return p.p.bytes(x), nil
}

// sync makes the file durable.
func (p *pageFile) sync() error { return p.f.Sync() }

// close closes the file.
func (p *pageFile) close() error { return p.f.Close() }
