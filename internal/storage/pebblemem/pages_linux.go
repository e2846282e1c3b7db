//go:build cgo && linux

package pebblemem

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pageStint is how much is given back without a rest for others: each page takes a while on a virtual machine.
const pageStint = 1 << 20

// giveBackPages gives the memory below b back to the system. What b holds is lost: it reads as zeros, in new pages. It says whether the system took it.
func giveBackPages(b []byte) bool {
	for b = pagesIn(b); len(b) > 0; {
		n := min(len(b), pageStint)
		if unix.Madvise(b[:n], unix.MADV_DONTNEED) != nil {
			return false
		}
		b = b[n:]
		runtime.Gosched()
	}
	return true
}

// pagesIn returns the part of b that is whole pages.
func pagesIn(b []byte) []byte {
	page := uintptr(os.Getpagesize())
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) % page
	if uintptr(len(b)) < skip {
		return nil
	}
	b = b[skip:]
	return b[:uintptr(len(b))/page*page]
}
