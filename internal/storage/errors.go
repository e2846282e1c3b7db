package storage

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

var (
	// ErrLocked is returned when a directory is in use by another process, or opened twice in this one.
	ErrLocked = errors.New("the directory is in use by another process")
	// ErrCorrupt is returned when a file is damaged or missing, or does not hold what it must hold.
	ErrCorrupt = errors.New("data on the disk is corrupt")
	// ErrFailed is returned by every method of a DB after its first failure. The error that is wrapped beside
	// it says what failed.
	ErrFailed = errors.New("the database has stopped after a failure")
	// ErrNewerFormat is returned when a newer release wrote the directory. Nothing in it was touched.
	ErrNewerFormat = errors.New("the directory was written by a newer release")
	// ErrNamed is returned for a file that is not to be cut, since it has a name.
	ErrNamed = errors.New("the file has a name")
)

// Remedy is the advice that belongs to every corruption: what a user can do about it.
const Remedy = "rebuild this member from the other members (remove it, clear its data directory, add it again) or restore a backup"

// Corruptf returns an error that wraps ErrCorrupt and says where the damage is and what to do. The format may
// use %w.
func Corruptf(dir, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %w; %s", ErrCorrupt, dir, fmt.Errorf(format, args...), Remedy)
}

// explain wraps an error of Pebble with the directory and what was being done, and turns its corruption
// errors into ErrCorrupt. nil stays nil.
func explain(dir, doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFailed):
		return fmt.Errorf("%s: %w", doing, err)
	case pebble.IsCorruptionError(err):
		return Corruptf(dir, "%s: %w", doing, err)
	}
	return fmt.Errorf("%s in %s: %w", doing, dir, err)
}
