package storage

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
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

func TestAnyBitOfATableThatIsFlippedIsNoticed(t *testing.T) {
	t.Parallel()
	mem, tables := tabled(t)
	whole, told := verified(t, mem)
	if whole.Tables != 3 || whole.Bytes == 0 || len(told) != 0 {
		t.Fatalf("%+v, told %v", whole, told)
	}
	var size int
	rewrite(t, mem, tables[0], func(b []byte) []byte { size = len(b); return b })
	for at := range size {
		flip := func(b []byte) []byte { b[at] ^= 1 << (at % 8); return b }
		rewrite(t, mem, tables[0], flip)
		if _, told := verified(t, mem); len(told) != 1 {
			t.Errorf("a flip at %d of %d: told %v", at, size, told)
		}
		rewrite(t, mem, tables[0], flip)
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
