package kubernetes

import "syscall"

// diesWithParent lets a child end with a test program that is killed.
func diesWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
