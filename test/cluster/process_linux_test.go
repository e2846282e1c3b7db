package cluster

import "syscall"

// diesWithParent makes the kernel kill a server whose test process died without cleaning up.
func diesWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
