package ctl

import (
	"os"

	"golang.org/x/sys/unix"
)

// hideInput stops a terminal from showing what is typed. It returns nil when f is no terminal.
func hideInput(f *os.File) (restore func()) {
	state, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil
	}
	hidden := *state
	hidden.Lflag &^= unix.ECHO
	if unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, &hidden) != nil {
		return nil
	}
	return func() { _ = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, state) }
}
