//go:build unix

package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// switchLevel makes the log tell everything from SIGUSR1 on, and as much as at the start from SIGUSR2 on. The returned
// function gives the signals back.
func switchLevel(log *slog.Logger, level *slog.LevelVar) (release func()) {
	signals := make(chan os.Signal, 1)
	done := make(chan struct{})
	before := level.Level()
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		for {
			select {
			case s := <-signals:
				if s == syscall.SIGUSR1 {
					level.Set(slog.LevelDebug)
					log.Info("logging everything; SIGUSR2 ends it")
				} else {
					level.Set(before)
					log.Log(context.Background(), max(before, slog.LevelInfo), "logging as at the start") // whatever it was
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}
