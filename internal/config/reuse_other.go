//go:build !unix

package config

import "errors"

// reuse refuses: these socket options mean something else here.
func reuse(uintptr, bool, bool) error {
	return errors.New("--socket-reuse-port and --socket-reuse-address are for Unix systems")
}
