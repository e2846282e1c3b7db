package etcdfile

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/ashlar-kv/ashlar/internal/progress"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Image is a database that lies nowhere as such: what it is made of does, sorted, in a file, and what its first pages say is known. So its pages
// can be read in their order, any number of times, and nothing of the state is needed for that.
type Image struct {
	f        *os.File
	end      int64   // of the file
	pages    int64   // with so many bytes of pages it begins: what other buckets than that of the keys filled
	pagesSum uint32  // CRC-32C of them
	trees    *writer // as it was after them
	runs     []bounds
	plan     plan
}

// Image makes an image of the content in the file f, which must be empty, and to be read and written. The image has it from then on; after
// an error it is the caller's still. It stops when ctx ends. The content may be closed after it.
func (c *Content) Image(ctx context.Context, f *os.File) (_ *Image, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx, line := progress.Begin(ctx, "reading the state", 0)
	defer line.End()
	s, sum := newSorter(f, c.runBytes, c.rest), crc32.New(castagnoli)
	defer func() {
		if err != nil { // to close the file would give all of it back at once
			err = errors.Join(err, Empty(f, s.end, c.rest))
		}
	}()
	i := &Image{f: f, trees: newWriter(newPages(io.MultiWriter(s, sum)))}
	if err := i.trees.createBuckets(); err != nil {
		return nil, err
	}
	if err := c.small(i.trees.put); err != nil {
		return nil, err
	}
	i.pages, i.pagesSum = s.end, sum.Sum32()
	if err := c.gather(ctx, s); err != nil {
		return nil, err
	}
	if err := s.finish(); err != nil {
		return nil, err
	}
	i.runs, i.end, i.trees.p.out = s.runs, s.end, nil // which would keep the content in memory
	counted := i.trees.cloneTo(nil)
	if err := c.inOrder(ctx, newMerger(i.open(true, false)), counted.putVersion); err != nil {
		return nil, err
	}
	if i.plan, err = counted.finish(); err != nil {
		return nil, err
	}
	return i, nil
}

// Size returns the size of the database.
func (i *Image) Size() int64 { return i.trees.p.bytes(i.plan) }

// Empty gives the space of what it is made of back piece by piece, and calls rest after each.
func (i *Image) Empty(rest func()) error { return Empty(i.f, i.end, rest) }

// Close closes the file, which has to have no name any more, or loses it then.
func (i *Image) Close() error { return i.f.Close() }

// open returns the runs, or only the heads of their versions.
func (i *Image) open(heads, release bool) (all []*run) {
	for _, b := range i.runs {
		r := &run{f: i.f, at: b.versions, end: b.heads, release: release, punched: b.versions}
		if heads {
			r.at, r.end, r.heads = b.heads, b.end, true
		}
		all = append(all, r)
	}
	return all
}

// Reader returns a reader of the database from its beginning. It reads as long as the image is not closed.
func (i *Image) Reader() *ImageReader {
	r := &ImageReader{i: i}
	r.w = i.trees.cloneTo(r)
	r.step = r.begin
	return r
}

// ImageReader reads a database whose pages it makes. An error that wraps storage.ErrCorrupt says that what they are made of was damaged since. It
// belongs to one goroutine.
type ImageReader struct {
	i       *Image
	release bool // it gives back what it has read: nobody else will

	w      *writer
	step   func() error // makes more
	merger *merger
	sum    uint32 // of the pages that were there
	at     int64  // their end so far

	made, left []byte // pages, and what of them is still to be read
	err        error  // after them
}

// Write implements io.Writer, for what makes pages.
func (r *ImageReader) Write(b []byte) (int, error) {
	r.made = append(r.made, b...)
	return len(b), nil
}

// Read implements io.Reader. It reads as much as there is room for, but at the end.
func (r *ImageReader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(r.left) > 0 {
			k := copy(p[n:], r.left)
			n, r.left = n+k, r.left[k:]
			continue
		}
		if r.err != nil {
			return n, r.err
		}
		if r.made = r.made[:0]; cap(r.made) > keepBytes {
			r.made = nil
		}
		r.err = r.step()
		r.left = r.made
	}
	return n, nil
}

// begin makes the first two pages.
func (r *ImageReader) begin() error {
	r.made = r.w.p.heads(r.i.plan)
	r.step = r.copied
	return nil
}

// copied reads pages that are there already.
func (r *ImageReader) copied() error {
	n := min(r.i.pages-r.at, pieceBytes)
	if n == 0 {
		if r.sum != r.i.pagesSum {
			return fmt.Errorf("%w: a page of a database that was begun is damaged", storage.ErrCorrupt)
		}
		r.merger = newMerger(r.i.open(false, r.release))
		r.step = r.merged
		return nil
	}
	r.made = append(r.made, make([]byte, n)...)
	if k, err := r.i.f.ReadAt(r.made, r.at); int64(k) < n {
		if r.made = nil; err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read a database that was begun: %w", err)
	}
	r.at += n
	r.sum = crc32.Update(r.sum, castagnoli, r.made)
	return nil
}

// merged takes a version.
func (r *ImageReader) merged() error {
	v, more, err := r.merger.next()
	if err != nil {
		return err
	}
	if more {
		if err := r.w.putVersion(v); err != nil {
			return err
		}
		if r.w.p.next >= r.i.plan.end { // which has the last page in it
			r.made = nil
			return fmt.Errorf("%w: there are more sorted versions than were counted", storage.ErrCorrupt)
		}
		return nil
	}
	r.merger = nil
	plan, err := r.w.finish()
	if err == nil && plan != r.i.plan {
		err = fmt.Errorf("%w: the sorted versions are not those that were counted", storage.ErrCorrupt)
	}
	if err != nil {
		r.made = nil // the end of a file that is wrong is not to be sent
		return err
	}
	return io.EOF
}
