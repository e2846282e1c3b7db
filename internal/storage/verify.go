package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/sstable"

	"github.com/ashlar-kv/ashlar/internal/progress"
)

// tableSuffix ends the names of tables.
const tableSuffix = ".sst"

// Verified says what VerifyTables has read.
type Verified struct {
	Tables int
	Bytes  int64
}

// VerifyTables reads every block of every table in the directory of a database, a log or a state, and compares its checksum, but for the blocks of
// older versions' values, which only a read of all versions comes to (Pebble's ValidateBlockChecksums leaves them out). It
// calls damaged with an error that wraps ErrCorrupt and names file and place for each table that is not whole, and goes on; it
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
		return info.Size(), errors.Join(err, readable.Close())
	}
	return info.Size(), errors.Join(r.ValidateBlockChecksums(), r.Close())
}
