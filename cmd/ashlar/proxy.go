package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/ashlar-kv/ashlar/internal/proxy"
)

// isProxy tells whether the arguments ask for what stands in front of a cluster.
func isProxy(args []string) bool {
	return len(args) > 0 && (args[0] == "gateway" || args[0] == "grpc-proxy")
}

// runProxy serves clients in front of a cluster until it is told to stop, and returns the exit status.
func runProxy(p process, program string, args []string) int {
	n := newNotifier(p.environ, os.Getpid(), slog.New(slog.NewJSONHandler(p.stderr, nil)))
	defer n.stopping()
	return proxy.Run(context.Background(), proxy.Process{Program: program, Args: args, Stdout: p.stdout, Stderr: p.stderr,
		Ready: func([]string) { n.serving(nil) }})
}
