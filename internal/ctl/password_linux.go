package ctl

import (
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// hideInput stops a terminal from showing what is typed. It returns nil when f is no terminal. A signal that ends the
// process meanwhile ends it only after the terminal shows what is typed again.
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
	show := sync.OnceFunc(func() { _ = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, state) })
	signals := make(chan os.Signal, 1)
	done := make(chan struct{})
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		select {
		case s := <-signals:
			show()
			signal.Reset(s)
			_ = syscall.Kill(os.Getpid(), s.(syscall.Signal))
		case <-done:
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
		show()
	}
}
