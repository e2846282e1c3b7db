package ctl

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// untilSignal returns a context that ends with the first SIGINT or SIGTERM: the command gives back what it holds. A second one ends the process
// at once, whatever it still waits for.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	unmake := context.AfterFunc(ctx, stop)
	return ctx, func() {
		unmake()
		stop()
	}
}
