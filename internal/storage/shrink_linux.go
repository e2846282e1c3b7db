package storage

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// errNamed is returned for a file that is not to be cut, since it has a name.
var errNamed = errors.New("the file has a name")

// shrink cuts a file that has no name any more: neither its own nor one that a copy has linked it under.
func shrink(f vfs.File, to int64) error {
	fd := f.Fd()
	if fd == vfs.InvalidFd {
		return errors.ErrUnsupported
	}
	var info unix.Stat_t
	if err := unix.Fstat(int(fd), &info); err != nil {
		return fmt.Errorf("look at the names of a file: %w", err)
	}
	if info.Nlink > 0 {
		return errNamed
	}
	return unix.Ftruncate(int(fd), to)
}
