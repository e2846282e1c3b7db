package backup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Prune removes all points before the keep-th newest full one, oldest last in each lineage: whatever a crash leaves of them is
// whole points, or files that nothing names, which the next run of Prune or Create removes. It returns the points removed. Errors
// are ErrBusy or of the filesystem; a damaged manifest is one, too, since a point may be made of what it names.
func Prune(dir string, keep int) (removed []Point, err error) {
	if keep < 1 {
		return nil, errors.New("at least one full point must be kept")
	}
	lock, err := lockBackup(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	all, err := Points(dir, func(_ int, err error) error { return err })
	if err != nil {
		return nil, err
	}
	if err := removePruned(dir, all); err != nil {
		return nil, err
	}
	from := len(all)
	for ; from > 0 && keep > 0; from-- {
		if all[from-1].Full() {
			keep--
		}
	}
	for i := from - 1; i >= 0 && keep == 0; i-- { // an increment goes before what it is made of
		p := all[i]
		// The manifest first: files without one are rubbish, a manifest without files is damage.
		if err := os.Remove(filepath.Join(dir, nameOf(p.Number, pointSuffix))); err != nil {
			return removed, fmt.Errorf("remove point %d: %w", p.Number, err)
		}
		if err := syncDir(dir); err != nil {
			return removed, err
		}
		for _, f := range p.Files {
			if err := removeIfThere(filepath.Join(dir, f.Name)); err != nil {
				return removed, fmt.Errorf("remove point %d: %w", p.Number, err)
			}
		}
		removed = append(removed, p)
	}
	return removed, nil
}

// removePruned removes the files that a Prune which was interrupted has left: those of a number below the newest point's that has no
// manifest, and that no point is an increment to. REQUIRES: all are the points of the backup, and no manifest is damaged.
func removePruned(dir string, all []Point) error {
	if len(all) == 0 {
		return nil
	}
	named, newest := map[int]bool{}, all[len(all)-1].Number
	for _, p := range all {
		named[p.Number], named[p.Parent] = true, true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		n := numberOf(e.Name())
		if n == 0 || n > newest || named[n] || !slices.Contains(fileSuffixes, strings.TrimPrefix(e.Name(), nameOf(n, ""))) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("remove what an interrupted prune left: %w", err)
		}
	}
	return nil
}
