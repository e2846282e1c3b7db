//go:build cgo && linux

package main

// A thread of Go's runtime looks every 20 µs for a processor whose thread waits in a system call, as long as it found one lately; a server
// that syncs its log always has one. To put that thread to sleep and wake it again was 6 to 13 % of the CPU time of a member with many
// clients and more with one. The kernel lets a thread sleep longer than it asked for by its timer slack, 50 µs by default. A millisecond
// is within what the runtime does itself: after a while without a find it looks every 10 ms. All other timers come late by as much, at
// most. A thread has the slack of the one that started it, so it has to be said before the first one starts, which is before Go
// does. Another slack than the default was chosen by whoever started the program, and stays.

// #include <sys/prctl.h>
//
// #define DEFAULT_SLACK 50000
// #define LONG_SLACK 1000000
//
// __attribute__((constructor)) static void long_slack(void) {
// 	if (prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0) == DEFAULT_SLACK)
// 		prctl(PR_SET_TIMERSLACK, LONG_SLACK, 0, 0, 0);
// }
import "C"
