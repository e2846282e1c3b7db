//go:build !linux

package storage

import (
	"errors"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Shrink cuts no file: what a removed one takes is given back at once.
func Shrink(vfs.File, int64) error { return errors.ErrUnsupported }
