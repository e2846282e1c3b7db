package etcdfile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
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

// pageFile is a file to which pages are added, each once and for ever. It belongs to one goroutine.
type pageFile struct {
	f    *os.File
	out  *bufio.Writer
	size int    // of a page
	next uint64 // the number of the next page
	page []byte // the page that is being encoded
}

// createPages makes a file of no pages at path, which must be empty or not exist. rest is called after each piece that is written to it.
func createPages(path string, rest func()) (_ *pageFile, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if info.Size() != 0 {
		return nil, fmt.Errorf("%s: %w", path, os.ErrExist)
	}
	p := &pageFile{f: f, size: os.Getpagesize(), next: firstPage}
	p.out = bufio.NewWriterSize(pieces{f, rest}, pieceBytes)
	_, err = p.out.Write(make([]byte, firstPage*p.size)) // written by finish
	return p, err
}

// append writes the page of the first n of the node's elements and returns its number.
func (p *pageFile) append(b *node, n int) (number uint64, err error) {
	number = p.next
	bytes := b.bytesOf(n)
	pages := (bytes + p.size - 1) / p.size
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
func (p *pageFile) begin(number uint64, kind uint16, elements, pages int) []byte {
	at := binary.NativeEndian.AppendUint64(p.page[:0], number)
	at = binary.NativeEndian.AppendUint16(at, kind)
	at = binary.NativeEndian.AppendUint16(at, uint16(elements))
	return binary.NativeEndian.AppendUint32(at, uint32(pages-1))
}

// write writes a page, filled up with zeroes.
func (p *pageFile) write(page []byte, pages int) error {
	used := len(page)
	page = slices.Grow(page, pages*p.size-used)[:pages*p.size]
	clear(page[used:])
	if p.page = page; cap(page) > keepBytes {
		p.page = nil
	}
	p.next += uint64(pages)
	_, err := p.out.Write(page)
	return err
}

// finish writes what is left and the two pages that the file begins with, which name the bucket of buckets at root, and returns
// the file's size.
func (p *pageFile) finish(root uint64) (size int64, err error) {
	free := p.next
	if err := p.write(p.begin(free, pageFreelist, 0, 1), 1); err != nil {
		return 0, err
	}
	if err := p.out.Flush(); err != nil {
		return 0, err
	}
	for i := range uint64(firstPage) {
		page := p.begin(i, pageMeta, 0, 1)
		for _, n := range []uint32{metaMagic, metaVersion, uint32(p.size), 0} {
			page = binary.NativeEndian.AppendUint32(page, n)
		}
		// The root and its sequence, the list of free pages, the end, the transaction: the later one counts.
		for _, n := range []uint64{root, 0, free, p.next, i} {
			page = binary.NativeEndian.AppendUint64(page, n)
		}
		sum := fnv.New64a()
		_, _ = sum.Write(page[pageHeaderBytes:]) // a hash takes everything
		page = binary.NativeEndian.AppendUint64(page, sum.Sum64())
		if _, err := p.f.WriteAt(page, int64(i)*int64(p.size)); err != nil {
			return 0, err
		}
	}
	return int64(p.next) * int64(p.size), nil
}

// close closes the file.
func (p *pageFile) close() error { return p.f.Close() }
