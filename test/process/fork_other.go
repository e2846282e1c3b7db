//go:build !linux

package process

// withoutForks does nothing: where a socket cannot be made closed to children at once, package net takes the lock itself, and
// whoever held it already would wait for itself.
func withoutForks() (end func()) { return func() {} }
