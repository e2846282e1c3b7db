package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/sstable/colblk"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// tabled is a closed state in data/state, of three tables, whose paths are returned.
func tabled(t *testing.T) (mem *vfs.MemFS, tables []string) {
	t.Helper()
	mem = vfs.NewMem()
	db := openTestState(t, mem, Options{})
	for i := range int64(3) {
		set(t, db, AppendDataKey(nil, []byte("k"), i+2, 0), strings.Repeat("v", 1000))
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := mem.List("data/state")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	for _, name := range names {
		if path.Ext(name) == tableSuffix {
			tables = append(tables, "data/state/"+name)
		}
	}
	if len(tables) != 3 {
		t.Fatalf("tables %q", tables)
	}
	return mem, tables
}

// rewrite replaces the content of a file.
func rewrite(t *testing.T, fs FS, name string, change func([]byte) []byte) {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err == nil {
		err = writeFile(fs, name, change(b))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// verified returns what VerifyTables says and tells of data/state.
func verified(t *testing.T, fs FS) (v Verified, told []error) {
	t.Helper()
	v, err := VerifyTables(t.Context(), fs, "data/state", false, func(err error) error {
		told = append(told, err)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return v, told
}

func TestATableThatIsNotWholeIsNamedAndTheOthersAreReadAllTheSame(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(b []byte) []byte{
		"a bit in a block": func(b []byte) []byte { b[10] ^= 1; return b },
		"a bit at its end": func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"its half":         func(b []byte) []byte { return b[:len(b)/2] },
		"nothing in it":    func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mem, tables := tabled(t)
			rewrite(t, mem, tables[1], change)
			v, told := verified(t, mem)
			if v.Tables != 3 || len(told) != 1 || !errors.Is(told[0], ErrCorrupt) || !strings.Contains(told[0].Error(), tables[1]) {
				t.Errorf("%+v, told %v", v, told)
			}
		})
	}
}

// TestWhatACrashHasLeftIsNoDamage: a table that was being written, and one that was being given back.
func TestWhatACrashHasLeftIsNoDamage(t *testing.T) {
	t.Parallel()
	mem, tables := tabled(t)
	var half []byte
	rewrite(t, mem, tables[1], func(b []byte) []byte { half = slices.Clone(b[:len(b)/2]); return b })
	for name, b := range map[string][]byte{"data/state/900001.sst": half, "data/state/900002.sst": nil} {
		if err := writeFile(mem, name, b); err != nil {
			t.Fatal(err)
		}
	}
	if v, told := verified(t, mem); v.Tables != 3 || len(told) != 0 {
		t.Errorf("%+v, told %v", v, told)
	}
}

// TestATableOfAnotherKeySchemaIsNamed: all of its checksums are right.
func TestATableOfAnotherKeySchemaIsNamed(t *testing.T) {
	t.Parallel()
	mem, tables := tabled(t)
	f, err := mem.Create(tables[1], vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	schema := colblk.DefaultKeySchema(pebble.DefaultComparer, 16)
	schema.Name = "of a later release"
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(f), sstable.WriterOptions{
		Comparer: pebble.DefaultComparer, KeySchema: &schema, TableFormat: sstable.TableFormatPebblev5,
	})
	if err := errors.Join(w.Set(AppendDataKey(nil, []byte("k"), 2, 0), []byte("v")), w.Close()); err != nil {
		t.Fatal(err)
	}
	v, told := verified(t, mem)
	if v.Tables != 3 || len(told) != 1 || !errors.Is(told[0], ErrCorrupt) || !strings.Contains(told[0].Error(), "of a later release") {
		t.Errorf("%+v, told %v", v, told)
	}
}

func TestATableThatCanNotBeReadIsNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind errorfs.OpKind
		at   int64
	}{
		"it is not opened":               {errorfs.OpOpen, 1},
		"its size is not told":           {errorfs.OpFileStat, 1},
		"its size is not told to Pebble": {errorfs.OpFileStat, 2},
		"it is not read":                 {errorfs.OpFileReadAt, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mem, tables := tabled(t)
			var ops atomic.Int64
			v, told := verified(t, errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind == c.kind && op.Path == tables[1] && ops.Add(1) == c.at {
					return syscall.EIO
				}
				return nil
			})))
			if v.Tables != 3 || len(told) != 1 || !errors.Is(told[0], syscall.EIO) || !strings.Contains(told[0].Error(), tables[1]) {
				t.Errorf("%+v, told %v", v, told)
			}
		})
	}
}

// ofAllBlocks replaces a table by one that has every kind of block that a state's may have, each but the last ones several times, and returns where
// which lies.
func ofAllBlocks(t *testing.T, fs FS, name string) (blocks []sstable.NamedBlockHandle, footer block.Handle, size int) {
	t.Helper()
	options := stateOptions(Options{})
	options.EnsureDefaults()
	how := options.MakeWriterOptions(6, options.FormatMajorVersion.MaxTableFormat())
	how.BlockSize, how.IndexBlockSize = 100, 60
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(f), how)
	for _, key := range []string{"a", "b", "c"} {
		for rev := int64(6); rev > 0; rev-- { // the values of all but the newest go to blocks of their own
			err = errors.Join(err, w.Set(AppendDataKey(nil, []byte(key), rev, 0), []byte(strings.Repeat(key, 40))))
		}
	}
	lower, upper := AppendDataPrefix(nil, []byte("x")), AppendDataPrefix(nil, []byte("y"))
	if err := errors.Join(err, w.DeleteRange(lower, upper), w.RangeKeyDelete(lower, upper), w.Close()); err != nil {
		t.Fatal(err)
	}
	if f, err = fs.Open(name); err != nil {
		t.Fatal(err)
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		t.Fatal(err)
	}
	r, err := sstable.NewReader(t.Context(), readable, options.MakeReaderOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	l, err := r.Layout()
	if err != nil {
		t.Fatal(err)
	}
	return blocksOf(l), l.Footer, int(readable.Size())
}

func TestAnyBitOfATableThatIsFlippedIsNoticed(t *testing.T) {
	t.Parallel()
	mem, tables := tabled(t)
	blocks, footer, size := ofAllBlocks(t, mem, tables[0])
	whole, told := verified(t, mem)
	if whole.Tables != 3 || whole.Bytes == 0 || len(told) != 0 {
		t.Fatalf("%+v, told %v", whole, told)
	}
	// where returns how the damage of a byte must be told: at its block, by us or by Pebble, or at the end that names the footer.
	where := func(at int) (kind string, told *regexp.Regexp) {
		for _, b := range blocks {
			if uint64(at) < b.Offset+b.Length+block.TrailerLen {
				return b.Name, regexp.MustCompile(fmt.Sprintf(`%s: .*\bblock (at %d,|%[2]d/)`, tables[0], b.Offset))
			}
		}
		return "footer", regexp.MustCompile(fmt.Sprintf(`%s: .*\bfooter at its end, %d,`, tables[0], size))
	}
	kinds := make(map[string]int)
	for at := range size {
		kind, as := where(at)
		kinds[kind]++
		flip := func(b []byte) []byte { b[at] ^= 1 << (at % 8); return b }
		rewrite(t, mem, tables[0], flip)
		if _, told := verified(t, mem); len(told) != 1 || !errors.Is(told[0], ErrCorrupt) || !as.MatchString(told[0].Error()) {
			t.Errorf("a flip at %d of %d, in the %s, is told as %v, want %v", at, size, kind, told, as)
		}
		rewrite(t, mem, tables[0], flip)
	}
	for _, kind := range []string{
		"data", "filter", "index", "top index", "range deletions", "range keys", "value", "value index", "properties", "metaindex", "footer",
	} {
		if kinds[kind] == 0 {
			t.Errorf("the table has no %s: %v", kind, kinds)
		}
	}
	if kinds["footer"] != int(footer.Length) {
		t.Errorf("%d bytes behind the blocks, of which the footer has %d", kinds["footer"], footer.Length)
	}
}

func TestBlocksThatAreNotWhereTheyBelongAreTold(t *testing.T) {
	t.Parallel()
	at := func(offset, length uint64) sstable.NamedBlockHandle {
		return sstable.NamedBlockHandle{Handle: block.Handle{Offset: offset, Length: length}, Name: "value"}
	}
	for name, c := range map[string]struct {
		blocks []sstable.NamedBlockHandle
		footer block.Handle
		want   string // in the error, "" for none
	}{
		"all of the file is told of":      {[]sstable.NamedBlockHandle{at(0, 10), at(15, 20)}, block.Handle{Offset: 40, Length: 60}, ""},
		"something lies before the first": {[]sstable.NamedBlockHandle{at(1, 10), at(16, 19)}, block.Handle{Offset: 40, Length: 60}, "at 1: the one before ends at 0"},
		"something lies between two":      {[]sstable.NamedBlockHandle{at(0, 9), at(15, 20)}, block.Handle{Offset: 40, Length: 60}, "at 15: the one before ends at 14"},
		"one lies in another":             {[]sstable.NamedBlockHandle{at(0, 10), at(14, 21)}, block.Handle{Offset: 40, Length: 60}, "at 14: the one before ends at 15"},
		"something lies behind the last":  {[]sstable.NamedBlockHandle{at(0, 10), at(15, 19)}, block.Handle{Offset: 40, Length: 60}, "ends at 39"},
		"the last one reaches too far":    {[]sstable.NamedBlockHandle{at(0, 10), at(15, 21)}, block.Handle{Offset: 40, Length: 60}, "at 15, of 21 bytes"},
		"one is larger than any file":     {[]sstable.NamedBlockHandle{at(0, math.MaxUint64-2)}, block.Handle{Offset: 40, Length: 60}, "at 0, of 18446744073709551613 bytes"},
		"there is no room for a checksum": {[]sstable.NamedBlockHandle{at(0, 0)}, block.Handle{Offset: 4, Length: 96}, "at 0, of 0 bytes"},
		"the footer is not at the end":    {nil, block.Handle{Offset: 0, Length: 60}, "the footer of 60 bytes is at 0 of 100"},
		"the footer is larger":            {nil, block.Handle{Offset: math.MaxUint64, Length: 101}, "the footer of 101 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := verifyPlaces(c.blocks, c.footer, 100)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestAVerificationEndsWhenNobodyWantsIt(t *testing.T) {
	t.Parallel()
	mem, tables := tabled(t)
	rewrite(t, mem, tables[0], func([]byte) []byte { return nil })
	enough := errors.New("enough")
	if v, err := VerifyTables(t.Context(), mem, "data/state", false, func(error) error { return enough }); !errors.Is(err, enough) || v.Tables != 0 {
		t.Errorf("after the first damage: %+v, %v", v, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if v, err := VerifyTables(ctx, mem, "data/state", false, nil); !errors.Is(err, context.Canceled) || v.Tables != 0 {
		t.Errorf("cancelled: %+v, %v", v, err)
	}
	if _, err := VerifyTables(t.Context(), mem, "data/none", false, nil); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "data/none") {
		t.Errorf("without a directory: %v", err)
	}
}
