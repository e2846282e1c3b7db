package storage

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"

	"github.com/ashlar-kv/ashlar/internal/progress"
)

// tableSuffix ends the names of tables.
const tableSuffix = ".sst"

// Verified says what VerifyTables has read.
type Verified struct {
	Tables int
	Bytes  int64
}

// VerifyTables reads every block of every table in the directory of a database, a log or a state, and compares its checksum. It calls damaged
// with an error that wraps ErrCorrupt and names file and place for each table that is not whole, of the first block that is not, and goes on; it
// returns damaged's error, or one of reading the directory. The database must not be open. Of a state that can be opened it reads the tables that
// belong to it: a crash leaves others, whole or not, which the next start removes.
func VerifyTables(ctx context.Context, fs FS, dir string, log bool, damaged func(error) error) (v Verified, err error) {
	names, err := fs.List(dir)
	if err != nil {
		return v, fmt.Errorf("list %s: %w", dir, err)
	}
	slices.Sort(names)
	options := stateOptions(Options{})
	if log {
		options = logOptions(Options{})
	} else if belongs := tablesOf(fs, dir); belongs != nil {
		names = slices.DeleteFunc(names, func(name string) bool { return !belongs[name] })
	}
	options.EnsureDefaults()
	_, line := progress.Begin(ctx, "reading "+fs.PathBase(dir), bytesOf(fs, dir, names))
	defer line.End()
	for _, name := range names {
		if !strings.HasSuffix(name, tableSuffix) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return v, err
		}
		size, err := verifyTable(ctx, fs, fs.PathJoin(dir, name), options.MakeReaderOptions())
		if err != nil {
			if err := damaged(Corruptf(fs.PathJoin(dir, name), "%w", err)); err != nil {
				return v, err
			}
		}
		v.Tables++
		v.Bytes += size
		line.Add(size)
	}
	return v, nil
}

// tablesOf returns the names of the tables that a state consists of, nil where that cannot be told: why it cannot be opened is for others to say.
func tablesOf(fs FS, dir string) map[string]bool {
	db, err := OpenState(dir, Options{FS: fs, ReadOnly: true, Fatal: func(error) {}})
	if err != nil {
		return nil
	}
	defer func() { _ = db.Close() }() // nothing was written
	levels, err := db.p.SSTables()
	if err != nil {
		return nil
	}
	names := make(map[string]bool)
	for _, level := range levels {
		for _, table := range level {
			names[table.BackingSSTNum.String()+tableSuffix] = true
		}
	}
	return names
}

// bytesOf is the size of all tables, 0 when it cannot be told.
func bytesOf(fs FS, dir string, names []string) (n int64) {
	for _, name := range names {
		if !strings.HasSuffix(name, tableSuffix) {
			continue
		}
		info, err := fs.Stat(fs.PathJoin(dir, name))
		if err != nil {
			return 0
		}
		n += info.Size()
	}
	return n
}

func verifyTable(ctx context.Context, fs FS, path string, options sstable.ReaderOptions) (size int64, err error) {
	f, err := fs.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() {
		if r := recover(); r != nil { // sstable.NewReader panics at the name of a key schema that it does not know
			err = errors.Join(fmt.Errorf("it cannot be read: %v", r), f.Close())
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return 0, errors.Join(err, f.Close())
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return 0, errors.Join(err, f.Close())
	}
	r, err := sstable.NewReader(ctx, readable, options)
	if err != nil {
		return info.Size(), errors.Join(fmt.Errorf("what the footer at its end, %d, leads to: %w", info.Size(), err), readable.Close())
	}
	return info.Size(), errors.Join(verifyBlocks(ctx, r, info.Size()), r.Close())
}

// verifyBlocks compares the checksum of every block of an open table, but for the footer's, which opening it did, if the format has one. Pebble's
// own ValidateBlockChecksums leaves out the values of older versions.
func verifyBlocks(ctx context.Context, r *sstable.Reader, size int64) error {
	l, err := r.Layout()
	if err != nil {
		return fmt.Errorf("find its blocks: %w", err)
	}
	blocks := blocksOf(l)
	if err := verifyPlaces(blocks, l.Footer, uint64(size)); err != nil {
		return err
	}
	sum := block.Checksummer{Type: r.BlockReader().ChecksumType()}
	var buf []byte
	for _, b := range blocks {
		n := int(b.Length + block.TrailerLen)
		buf = slices.Grow(buf[:0], n)[:n]
		if err := r.BlockReader().Readable().ReadAt(ctx, buf, int64(b.Offset)); err != nil {
			return fmt.Errorf("%s block at %d: %w", b.Name, b.Offset, err)
		}
		content, trailer := buf[:b.Length], buf[b.Length:]
		if want, got := binary.LittleEndian.Uint32(trailer[1:]), sum.Checksum(content, trailer[0]); want != got {
			return fmt.Errorf("%s block at %d, of %d bytes: its checksum is %08x, that of what is there %08x", b.Name, b.Offset, b.Length, want, got)
		}
	}
	return nil
}

// verifyPlaces tells whether blocks, in the order in which they lie, and the footer are all of a file: what none of them has, or two have, nobody
// has written so.
func verifyPlaces(blocks []sstable.NamedBlockHandle, footer block.Handle, size uint64) error {
	if footer.Length > size || footer.Offset != size-footer.Length {
		return fmt.Errorf("the footer of %d bytes is at %d of %d", footer.Length, footer.Offset, size)
	}
	var end uint64 // of the blocks so far
	for _, b := range blocks {
		if b.Offset != end {
			return fmt.Errorf("%s block at %d: the one before ends at %d", b.Name, b.Offset, end)
		}
		if room := footer.Offset - end; room < block.TrailerLen || b.Length > room-block.TrailerLen {
			return fmt.Errorf("%s block at %d, of %d bytes: the footer is at %d", b.Name, b.Offset, b.Length, footer.Offset)
		}
		end += b.Length + block.TrailerLen
	}
	if end != footer.Offset {
		return fmt.Errorf("the last block ends at %d, and the footer is at %d", end, footer.Offset)
	}
	return nil
}

// blocksOf returns the blocks of a table as they lie in the file, without its footer.
func blocksOf(l *sstable.Layout) []sstable.NamedBlockHandle {
	var blocks []sstable.NamedBlockHandle
	add := func(name string, handles ...block.Handle) {
		for _, h := range handles {
			if h != (block.Handle{}) {
				blocks = append(blocks, sstable.NamedBlockHandle{Handle: h, Name: name})
			}
		}
	}
	for _, b := range l.Data {
		add("data", b.Handle)
	}
	for _, b := range l.Filter {
		add("filter", b.Handle)
	}
	add("index", l.Index...)
	add("top index", l.TopIndex)
	add("range deletions", l.RangeDel)
	add("range keys", l.RangeKey)
	add("value", l.ValueBlock...)
	add("value index", l.ValueIndex)
	add("blob references", l.BlobReferenceIndex)
	add("properties", l.Properties)
	add("metaindex", l.MetaIndex)
	slices.SortFunc(blocks, func(a, b sstable.NamedBlockHandle) int { return cmp.Compare(a.Offset, b.Offset) })
	return blocks
}
