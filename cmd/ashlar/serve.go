package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/logging"
	"github.com/ashlar-kv/ashlar/internal/server"
	"github.com/ashlar-kv/ashlar/internal/storage/pebblemem"
	"github.com/ashlar-kv/ashlar/internal/version"
)

// serve runs a member until it is told to stop, and returns the exit status.
func serve(p process, program string, args []string) int {
	if isProxy(args) {
		return runProxy(p, program, args)
	}
	cfg, err := config.Parse(program, args, p.environ)
	if err != nil {
		return withoutConfig(p, program, err)
	}
	easeCollection(p.environ)
	pebblemem.Use()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	if !cfg.Initialised() {
		if err := cfg.CheckBootstrap(ctx); err != nil {
			return failed(p, program, err)
		}
	}
	var level slog.LevelVar
	log, logFiles, err := logging.Open(logOptions(p, program, cfg, &level))
	if err != nil {
		return failed(p, program, err)
	}
	defer logFiles.Close()
	for _, n := range cfg.Notices {
		log.LogAttrs(ctx, n.Level, n.Message, n.Attrs...)
	}
	defer handleSignals(log, stop)()
	defer switchLevel(log, &level)()
	n := newNotifier(p.environ, os.Getpid(), log)
	defer n.stopping()
	defer context.AfterFunc(ctx, n.stopping)()
	if err := server.RunIn(ctx, cfg, log, server.Host{Started: n.started, Serving: n.serving}); err != nil {
		log.Log(ctx, logging.LevelFatal, "member ended", "error", err)
		return failed(p, program, err)
	}
	return 0
}

// withoutConfig does what is asked for, or says what is wrong, where the flags give no configuration to serve with, and returns the exit status.
func withoutConfig(p process, program string, err error) int {
	var usage *config.UsageError
	switch {
	case errors.Is(err, config.ErrHelp):
		config.Help(p.stdout, program)
		return 0
	case errors.Is(err, config.ErrVersion):
		fmt.Fprint(p.stdout, banner(program))
		return 0
	case errors.As(err, &usage) && program == "etcd":
		fmt.Fprintln(p.stderr, err)
		config.Usage(p.stderr, program)
		return 2
	case errors.As(err, &usage):
		fmt.Fprintf(p.stderr, "%s: %v; see %s --help\n", program, err, program)
		return 2
	}
	return failed(p, program, err)
}

// failed says why the process fails, and returns the exit status.
func failed(p process, program string, err error) int {
	fmt.Fprintf(p.stderr, "%s: %s\n", program, oneLine(err))
	return 1
}

// gcPercent is the default of GOGC for a server.
const gcPercent = 150

// easeCollection sets it. Requests are short-lived garbage over a small live heap: fewer collections cost little memory.
func easeCollection(environ []string) {
	if !slices.ContainsFunc(environ, func(v string) bool { return strings.HasPrefix(v, "GOGC=") }) {
		debug.SetGCPercent(gcPercent)
	}
}

// oneLine is an error's text on one line; joined errors come on lines of their own.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func banner(program string) string {
	if program == "etcd" {
		return version.EtcdBanner()
	}
	return version.Banner()
}

func logOptions(p process, program string, cfg config.Config, level *slog.LevelVar) logging.Options {
	o := server.LogOptions(&cfg, p.stdout, p.stderr)
	o.Switch, o.Identifier = level, program
	return o
}

// handleSignals calls stop at the first SIGINT or SIGTERM and ends the process at the second one, whatever
// it is doing: what was acknowledged is on disk. The returned function gives the signals back.
func handleSignals(log *slog.Logger, stop func()) (release func()) {
	signals := make(chan os.Signal, 2)
	done := make(chan struct{})
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		count := 0
		for {
			select {
			case s := <-signals:
				if count++; count == 1 {
					log.Info("stopping on a signal; a second one stops at once", "signal", s.String())
					stop()
					continue
				}
				log.Warn("stopping at once", "signal", s.String())
				os.Exit(128 + int(s.(syscall.Signal)))
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
