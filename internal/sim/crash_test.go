package sim

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// dirty is a disk with a bit of everything that a crash decides on.
func dirty(t *testing.T) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewCrashableMem()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(fs.MkdirAll("data/log", 0o700))
	must(errors.Join(syncDir(fs, "/"), syncDir(fs, "data")))
	must(writeFile(fs, "data/replaced", []byte("old")))
	must(writeFile(fs, "data/removed", []byte("still there")))
	grow(t, fs, "data/log/durable", 3, 9)
	must(errors.Join(syncDir(fs, "data"), syncDir(fs, "data/log")))
	must(fs.Remove("data/removed"))
	must(writeFile(fs, "data/new", []byte("new")))
	must(fs.Rename("data/new", "data/replaced"))
	for i := range 20 {
		grow(t, fs, fmt.Sprintf("data/log/%02d", i), 1, 4)
	}
	must(fs.MkdirAll("data/state", 0o700))
	grow(t, fs, "data/state/table", 1, 2)
	return fs
}

// grow writes a file of some blocks, of which the first ones are synced.
func grow(t *testing.T, fs *vfs.MemFS, p string, synced, blocks int) {
	t.Helper()
	f, err := fs.Create(p, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	for i := range blocks {
		if _, err := f.Write([]byte(strings.Repeat(fmt.Sprint(i), 4096))); err != nil {
			t.Fatal(err)
		}
		if i == synced-1 {
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// contents is what there is on a disk, by path.
func contents(t *testing.T, fs *vfs.MemFS, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		p := fs.PathJoin(dir, name)
		if isDir(fs, p) {
			all[p] = "a directory"
			maps.Copy(all, contents(t, fs, p))
			continue
		}
		b, _, err := readFile(fs, p)
		if err != nil {
			t.Fatal(err)
		}
		all[p] = string(b)
	}
	return all
}

// TestACrashLosesOnlyWhatIsNotSynced, and never anything else: each name is there or not, each block is new, old or zero.
func TestACrashLosesOnlyWhatIsNotSynced(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for seed := range uint64(200) {
		left, err := crash{50, seed, "/data"}.of(dirty(t))
		if err != nil {
			t.Fatal(err)
		}
		all := contents(t, left, "/")
		if got := all["/data/removed"]; got != "still there" {
			t.Fatalf("a removal that is not durable leaves %q", got)
		}
		if got := all["/data/replaced"]; got != "old" && got != "new" {
			t.Fatalf("where one file takes another's place there is %q", got)
		}
		seen[all["/data/replaced"]] = true
		whole := all["/data/log/durable"]
		if len(whole) < 3*4096 || whole[:3*4096] != strings.Repeat("0", 4096)+strings.Repeat("1", 4096)+strings.Repeat("2", 4096) {
			t.Fatalf("seed %d: what is synced is not all there: %d bytes", seed, len(whole))
		}
		for i := 3; i*4096 < len(whole); i++ {
			b := whole[i*4096 : (i+1)*4096]
			if b != strings.Repeat(fmt.Sprint(i), 4096) && b != strings.Repeat("\x00", 4096) {
				t.Fatalf("seed %d: block %d is neither written nor zero", seed, i)
			}
			seen[fmt.Sprint("block ", i, b[0] == 0)] = true
		}
		for i := range 20 {
			p := fmt.Sprintf("/data/log/%02d", i)
			b, there := all[p]
			if there && (len(b) < 4096 || b[:4096] != strings.Repeat("0", 4096)) {
				t.Fatalf("seed %d: %s is there without what is synced of it", seed, p)
			}
			seen[fmt.Sprint("a new file ", there)] = true
		}
		_, state := all["/data/state"]
		seen[fmt.Sprint("a new directory ", state)] = true
		if again := contents(t, left.CrashClone(vfs.CrashCloneCfg{}), "/"); !maps.Equal(all, again) {
			t.Fatalf("seed %d: what a crash leaves is not durable", seed)
		}
	}
	for _, want := range []string{"old", "new", "block 3 true", "block 3 false", "block 8 false", "a new file true", "a new file false",
		"a new directory true", "a new directory false"} {
		if !seen[want] {
			t.Errorf("never seen: %s, of %v", want, slices.Sorted(maps.Keys(seen)))
		}
	}
}

// TestACrashFollowsFromItsSeed, whatever the runtime makes of the order of maps.
func TestACrashFollowsFromItsSeed(t *testing.T) {
	t.Parallel()
	for _, percent := range []int{0, 30, 100} {
		var first map[string]string
		for range 20 {
			left, err := crash{percent, 7, "/data"}.of(dirty(t))
			if err != nil {
				t.Fatal(err)
			}
			if all := contents(t, left, "/"); first == nil {
				first = all
			} else if !maps.Equal(all, first) {
				t.Fatalf("%d %% survive: two crashes of one seed leave %q and %q", percent, slices.Sorted(maps.Keys(all)), slices.Sorted(maps.Keys(first)))
			}
		}
	}
}
