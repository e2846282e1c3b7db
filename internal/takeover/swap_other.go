//go:build !linux

package takeover

import "os"

// swap gives a directory another name. The guard is written after it.
func swap(directory, other string) error { return os.Rename(directory, other) }
