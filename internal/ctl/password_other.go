//go:build !linux

package ctl

import "os"

// hideInput can hide nothing here: what is typed shows.
func hideInput(*os.File) (restore func()) { return nil }
