package takeover

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// swap puts the guard in the place of a directory, which gets the other name. There is no instant without one of the two, where
// the filesystem can do that.
func swap(directory, other string) error {
	if err := writeGuard(other); err != nil {
		return err
	}
	err := unix.Renameat2(unix.AT_FDCWD, directory, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOTSUP) {
		if err := os.Remove(other); err != nil {
			return err
		}
		return os.Rename(directory, other)
	}
	if err != nil {
		return &os.LinkError{Op: "exchange", Old: directory, New: other, Err: err}
	}
	return nil
}
