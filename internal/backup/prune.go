package backup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Prune removes all points before the keep-th newest full one, oldest last in each lineage: whatever a crash leaves of them is
// whole points, or files that nothing names. It returns the points removed. Errors are ErrBusy or of the filesystem; a
// damaged manifest is one, too, since a point may be made of what it names.
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
