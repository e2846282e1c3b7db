//go:build cgo && linux

package main

// The storage takes its block cache and memtables from the C library where there is one. glibc keeps a heap for each few threads, and
// blocks that come and go leave holes in all of them: after two ranges of 1M keys the cache of 256 MiB took 470 MiB. One
// heap is enough, since blocks come from the disk and nobody waits for another. It has to be said before the first thread
// starts, which is before Go does. Memtables get pages of their own, which go back to the system when they are flushed.

// #include <malloc.h>
//
// __attribute__((constructor)) static void one_heap(void) {
// #if defined(M_ARENA_MAX) && defined(M_MMAP_THRESHOLD)
// 	mallopt(M_ARENA_MAX, 1);
// 	mallopt(M_MMAP_THRESHOLD, 1 << 20);
// #endif
// }
import "C"
