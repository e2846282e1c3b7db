//go:build !linux

package storage

import (
	"errors"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// shrink cuts no file: what a removed one takes is given back at once.
func shrink(vfs.File, int64) error { return errors.ErrUnsupported }
