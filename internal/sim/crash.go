package sim

import (
	"bytes"
	"errors"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// crash says what survives of what a disk has not synced when its power fails: this percentage of the names and of the blocks.
//
// Pebble's own choice (vfs.MemFS.CrashClone) draws for files in the order of a map. Here what becomes of a name or a block follows
// from the seed and the path alone, whatever else there is. In both a name whose removal is not durable comes back, whatever the percentage.
type crash struct {
	percent int
	seed    uint64
	root    string // what is above is called otherwise in each run
}

// disks are what a disk holds in three readings: what is durable; all; and all names, each with what is durable of the file
// that has it now.
type disks struct{ durable, all, named *vfs.MemFS }

// of returns the disk as the crash leaves it. Nothing that writes to fs may begin meanwhile; what is under way may be in the copy or
// not. fs itself is of no use to a later crash: all its names are durable then.
func (c crash) of(fs *vfs.MemFS) (*vfs.MemFS, error) {
	d := disks{durable: fs.CrashClone(vfs.CrashCloneCfg{})}
	if c.percent == 0 {
		return d.durable, nil
	}
	d.all = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(0, 0))})
	if c.percent == 100 {
		return d.all, nil
	}
	if err := syncNames(fs, "/"); err != nil {
		return nil, err
	}
	d.named = fs.CrashClone(vfs.CrashCloneCfg{})
	left := vfs.NewCrashableMem()
	return left, c.copyDir(left, d, "/")
}

// syncNames makes the names of all files and directories durable.
func syncNames(fs *vfs.MemFS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return ignoreAbsent(err)
	}
	for _, name := range names {
		if p := path.Join(dir, name); isDir(fs, p) {
			if err := syncNames(fs, p); err != nil {
				return err
			}
		}
	}
	return ignoreAbsent(syncDir(fs, dir))
}

// ignoreAbsent returns err, unless something that was there just now is not any more: a removal was under way.
func ignoreAbsent(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func syncDir(fs *vfs.MemFS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func isDir(fs *vfs.MemFS, p string) bool {
	info, err := fs.Stat(p)
	return err == nil && info.IsDir()
}

// copyDir makes in left what survives of a directory, durable.
func (c crash) copyDir(left *vfs.MemFS, d disks, dir string) error {
	var names []string
	for _, fs := range []*vfs.MemFS{d.durable, d.named} {
		more, err := fs.List(dir)
		if ignoreAbsent(err) != nil {
			return err
		}
		names = append(names, more...)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if err := c.copyName(left, d, path.Join(dir, name)); err != nil {
			return err
		}
	}
	return syncDir(left, dir)
}

// copyName makes what survives of a file or a directory. A name that is not durable may be gone; where a durable one was given to
// another file since, it may be the former one's.
func (c crash) copyName(left *vfs.MemFS, d disks, p string) error {
	if isDir(d.durable, p) || isDir(d.named, p) {
		if !isDir(d.durable, p) && !c.survives(p, 0) {
			return nil
		}
		if err := left.MkdirAll(p, 0o700); err != nil {
			return err
		}
		return c.copyDir(left, d, p)
	}
	old, durable, err := readFile(d.durable, p)
	if err != nil {
		return err
	}
	now, named, err := readFile(d.named, p)
	if err != nil {
		return err
	}
	switch same := durable && named && bytes.Equal(old, now); {
	case same:
	case named && c.survives(p, 0):
	case durable:
		return writeFile(left, p, old)
	default:
		return nil
	}
	all, _, err := readFile(d.all, p)
	if err != nil {
		return err
	}
	return writeFile(left, p, c.blocks(p, now, all))
}

// blocks returns the durable data of a file with some blocks as they are in all of it. Where one is missing before them there are zeros.
func (c crash) blocks(p string, durable, all []byte) []byte {
	const size = 4096
	for from := 0; from < len(all); from += size {
		if !c.survives(p, 1+from) {
			continue
		}
		to := min(from+size, len(all))
		if grow := to - len(durable); grow > 0 {
			durable = append(durable, make([]byte, grow)...)
		}
		copy(durable[from:], all[from:to])
	}
	return durable
}

// survives says whether a name, at 0, or a block of its file is not lost.
func (c crash) survives(p string, at int) bool {
	sum := fnv.New64a()
	io.WriteString(sum, strings.TrimPrefix(p, c.root)) // never fails
	return rand.New(rand.NewPCG(c.seed^uint64(at), sum.Sum64())).IntN(100) < c.percent
}

// readFile returns what a file holds, and whether there is one.
func readFile(fs *vfs.MemFS, p string) (b []byte, there bool, err error) {
	f, err := fs.Open(p)
	if err != nil {
		return nil, false, ignoreAbsent(err)
	}
	b, err = io.ReadAll(f)
	return b, true, errors.Join(err, f.Close())
}

// writeFile makes a file.
func writeFile(fs *vfs.MemFS, p string, b []byte) error {
	f, err := fs.Create(p, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}
