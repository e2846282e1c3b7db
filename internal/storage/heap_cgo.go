//go:build cgo && linux

package storage

// #include <malloc.h>
//
// static void give_back(void) {
// #if defined(__GLIBC__)
// 	malloc_trim(0);
// #endif
// }
import "C"

// giveBackHeap returns to the system what the C library has free, from which the block cache comes: without it, blocks that leave the cache
// leave holes in its heap.
func giveBackHeap() { C.give_back() }
