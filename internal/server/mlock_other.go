//go:build !linux

package server

import "errors"

func lockMemory() error { return errors.New("lock memory: not supported on this system") }
