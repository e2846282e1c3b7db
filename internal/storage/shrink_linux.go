package storage

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// shrinkTries bounds how often a cut is begun that a signal interrupts.
const shrinkTries = 100

// Shrink cuts a file that has no name any more. It returns ErrNamed for one that has its own, or one that somebody has linked it under.
func Shrink(f vfs.File, to int64) (err error) {
	fd := f.Fd()
	if fd == vfs.InvalidFd {
		return errors.ErrUnsupported
	}
	var info unix.Stat_t
	if err := unix.Fstat(int(fd), &info); err != nil {
		return fmt.Errorf("look at the names of a file: %w", err)
	}
	if info.Nlink > 0 {
		return ErrNamed
	}
	for range shrinkTries {
		if err = unix.Ftruncate(int(fd), to); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("cut a file to %d bytes: %w", to, err)
	}
	return nil
}
