package process

import "syscall"

// withoutForks keeps children from being forked until the returned function is called.
func withoutForks() (end func()) {
	syscall.ForkLock.RLock()
	return syscall.ForkLock.RUnlock
}
