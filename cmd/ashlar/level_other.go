//go:build !unix

package main

import "log/slog"

// switchLevel does nothing: there are no such signals here.
func switchLevel(*slog.Logger, *slog.LevelVar) (release func()) { return func() {} }
