package etcdfile

import (
	"os"
	"syscall"
)

// The modes of fallocate(2) that give back a part of a file and leave its size alone.
const keepSizePunchHole = 0x01 | 0x02

// release gives a part of a file that nobody reads any more back to the disk. A filesystem that cannot keeps it until the file
// is removed.
func release(f *os.File, at, n int64) {
	if n > 0 {
		_ = syscall.Fallocate(int(f.Fd()), keepSizePunchHole, at, n) // it only saves space
	}
}
