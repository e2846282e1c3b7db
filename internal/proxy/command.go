package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ashlar-kv/ashlar/internal/discovery"
	"github.com/ashlar-kv/ashlar/internal/logging"
)

// Process is what the operating system hands to a program.
type Process struct {
	// Program is what help calls the program, such as "etcd".
	Program string
	// Args begin with "gateway" or "grpc-proxy".
	Args []string
	// Stdout takes help, Stderr the log and errors.
	Stdout, Stderr io.Writer
	// Ready is called once clients are served, with where; nil if nobody wants to know.
	Ready func(addresses []string)
	// Resolver is asked for SRV records; nil is that of the system.
	Resolver discovery.Resolver
	// OwnSeconds is how long a proxy with --experimental-leasing-prefix that is gone without a word keeps what it owns from
	// others; 0 is a minute.
	OwnSeconds int64
}

// Run runs a proxy until ctx ends or a signal ends it, and returns the exit status: 0 after a graceful stop and after help, 1
// for every failure, which Stderr says in one line.
func Run(ctx context.Context, p Process) int {
	root := &cobra.Command{Use: p.Program, SilenceErrors: true, SilenceUsage: true}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(p.gatewayCommand(), p.proxyCommand())
	root.SetArgs(p.Args)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)() // a second signal ends the process at once
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(p.Stderr, "%s: %s\n", p.Program, strings.ReplaceAll(err.Error(), "\n", "; "))
	return 1
}

// openLog opens the log of a proxy, which goes to standard error.
func (p Process) openLog(debug bool) (*slog.Logger, error) {
	level := "info"
	if debug {
		level = "debug"
	}
	log, _, err := logging.Open(logging.Options{Outputs: []string{"stderr"}, Level: level, Stdout: p.Stdout, Stderr: p.Stderr})
	return log, err
}

// ready says where clients are served.
func (p Process) ready(at ...net.Listener) {
	if p.Ready == nil {
		return
	}
	addresses := make([]string, len(at))
	for i, l := range at {
		addresses[i] = l.Addr().String()
	}
	p.Ready(addresses)
}

// resolver returns what is asked for SRV records.
func (p Process) resolver() discovery.Resolver {
	if p.Resolver == nil {
		return net.DefaultResolver
	}
	return p.Resolver
}
