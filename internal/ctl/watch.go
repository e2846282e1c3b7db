package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// watchFlags are the flags of one watch, on the command line and in interactive mode.
type watchFlags struct {
	prefix, prevKV, progress bool
	revision                 int64
}

func (f *watchFlags) define(set *pflag.FlagSet) {
	set.BoolVar(&f.prefix, "prefix", false, "every key that begins with the given one")
	set.Int64Var(&f.revision, "rev", 0, "begin at this revision (0: now)")
	set.BoolVar(&f.prevKV, "prev-kv", false, "print what the key was before")
	set.BoolVar(&f.progress, "progress-notify", false, "print, now and then, up to which revision all is told")
}

// watchArguments are the arguments of one watch: KEY [END] [-- COMMAND...]. With more than two keys the first is watched, as by etcdctl.
type watchArguments struct {
	keys    []string
	command []string
}

// watchArguments splits the arguments at the dash, which is -1 when there is none. Without a key the environment
// names one.
func (s *session) watchArguments(args []string, dash int) (watchArguments, error) {
	a := watchArguments{keys: args}
	if dash >= 0 {
		a.keys, a.command = args[:dash], args[dash:]
		if len(a.command) == 0 {
			return a, errors.New("bad number of arguments (found separator --, but no commands)")
		}
	}
	if key := s.lookup(variablePrefix + "WATCH_KEY"); key != "" {
		if len(a.keys) > 0 {
			return a, errors.New("bad number of arguments (found conflicting environment key)")
		}
		a.keys = []string{key}
		if end := s.lookup(variablePrefix + "WATCH_RANGE_END"); end != "" {
			a.keys = append(a.keys, end)
		}
	}
	if len(a.keys) == 0 {
		return a, errors.New("bad number of arguments")
	}
	return a, nil
}

func (s *session) watchCommand() *cobra.Command {
	var f watchFlags
	var interactive bool
	c := &cobra.Command{Use: "watch [options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
		Short: "Prints changes of keys as they happen"}
	c.RunE = s.run(func(ctx context.Context, args []string) error {
		if interactive {
			return s.watchInteractive(ctx)
		}
		a, err := s.watchArguments(args, c.ArgsLenAtDash())
		if err != nil {
			return fail(statusArguments, err)
		}
		client, err := s.connect()
		if err != nil {
			return err
		}
		events, err := openWatch(clientv3.WithRequireLeader(ctx), client, f, a)
		if err != nil {
			return fail(statusArguments, err)
		}
		if err := s.follow(ctx, events, a.command); err != nil {
			return err
		}
		return fail(statusInterrupted, errors.New("watch is canceled by the server"))
	})
	f.define(c.Flags())
	c.Flags().BoolVarP(&interactive, "interactive", "i", false, "read watches from standard input, a line each")
	return c
}

// openWatch starts a watch.
func openWatch(ctx context.Context, client *clientv3.Client, f watchFlags, a watchArguments) (clientv3.WatchChan, error) {
	options := []clientv3.OpOption{clientv3.WithRev(f.revision)}
	if len(a.keys) == 2 {
		if f.prefix {
			return nil, errors.New("`range_end` and `--prefix` are mutually exclusive")
		}
		options = append(options, clientv3.WithRange(a.keys[1]))
	}
	if f.prefix {
		options = append(options, clientv3.WithPrefix())
	}
	if f.prevKV {
		options = append(options, clientv3.WithPrevKV())
	}
	if f.progress {
		options = append(options, clientv3.WithProgressNotify())
	}
	return client.Watch(ctx, a.keys[0], options...), nil
}

// follow prints what comes from a watch until it ends, and runs a command for each event.
func (s *session) follow(ctx context.Context, events clientv3.WatchChan, command []string) error {
	for r := range events {
		if r.Canceled {
			fmt.Fprintf(s.Stderr, "watch was canceled (%v)\n", r.Err())
		}
		if r.IsProgressNotify() {
			fmt.Fprintf(s.Stdout, "progress notify: %d\n", r.Header.GetRevision())
		}
		if err := s.print(watchReply(&r)); err != nil {
			return err
		}
		if len(command) == 0 {
			continue
		}
		for _, e := range r.Events {
			if err := s.runForEvent(ctx, r.Header.GetRevision(), e, command); err != nil {
				fmt.Fprintf(s.Stderr, "command %q error (%v)\n", command, err)
				return silent(statusError)
			}
		}
	}
	return nil
}

// runForEvent runs a command that finds the event in its environment.
func (s *session) runForEvent(ctx context.Context, revision int64, e *mvccpb.Event, command []string) error {
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Env = append(append([]string(nil), s.Environ...),
		fmt.Sprintf("ETCD_WATCH_REVISION=%d", revision),
		fmt.Sprintf("ETCD_WATCH_EVENT_TYPE=%q", e.GetType()),
		fmt.Sprintf("ETCD_WATCH_KEY=%q", e.GetKv().GetKey()),
		fmt.Sprintf("ETCD_WATCH_VALUE=%q", e.GetKv().GetValue()))
	c.Stdout, c.Stderr = s.Stdout, s.Stderr
	return c.Run()
}

// watchInteractive reads lines, `watch ...` or `progress`, and starts a watch for each; they all print at once.
func (s *session) watchInteractive(ctx context.Context) error {
	client, err := s.connect()
	if err != nil {
		return err
	}
	ctx = clientv3.WithRequireLeader(ctx) // the same for all: the client has a stream for each kind of context
	for {
		line, err := s.input.ReadString('\n')
		if err != nil {
			return badInput("error reading watch request line: %w", err)
		}
		line = strings.TrimSuffix(line, "\n")
		all := words(line)
		switch {
		case len(all) == 0:
			fmt.Fprintf(s.Stderr, "Invalid command: %s (watch and progress supported)\n", line)
		case all[0] == "progress":
			if err := client.RequestProgress(ctx); err != nil {
				return err
			}
		case all[0] != "watch":
			fmt.Fprintf(s.Stderr, "Invalid command %s (only support watch)\n", line)
		case len(all) < 2 && s.lookup(variablePrefix+"WATCH_KEY") == "":
			fmt.Fprintf(s.Stderr, "Invalid command %s (command type or key is not provided)\n", line)
		default:
			if err := s.startWatch(ctx, client, line, all[1:]); err != nil {
				return err
			}
		}
	}
}

// startWatch starts the watch that a line asks for, in a goroutine that lives as long as the watch.
func (s *session) startWatch(ctx context.Context, client *clientv3.Client, line string, args []string) error {
	var f watchFlags
	set := pflag.NewFlagSet("watch", pflag.ContinueOnError)
	set.SetOutput(io.Discard)
	f.define(set)
	if err := set.Parse(args); err != nil {
		return fail(statusArguments, err)
	}
	a, err := s.watchArguments(set.Args(), set.ArgsLenAtDash())
	if err != nil {
		return fail(statusArguments, err)
	}
	events, err := openWatch(ctx, client, f, a)
	if err != nil {
		fmt.Fprintf(s.Stderr, "Invalid command %s (%v)\n", line, err)
		return nil
	}
	go func() {
		if err := s.follow(ctx, events, a.command); err != nil && ctx.Err() == nil {
			s.log.Warn("a watch has ended", "command", line, "error", err)
		}
	}()
	return nil
}

// eventType spells what happened to a key.
func (p *page) eventType(e *clientv3.Event) string {
	if e.GetType() == mvccpb.Event_DELETE {
		return p.paint.red(e.GetType().String())
	}
	return p.paint.green(e.GetType().String())
}

func watchReply(r *clientv3.WatchResponse) reply {
	return reply{json: r,
		simple: func(p *page) {
			for _, e := range r.Events {
				p.line(p.eventType(e))
				if e.GetPrevKv() != nil {
					p.keyValue(e.GetPrevKv())
				}
				p.keyValue(e.GetKv())
			}
		},
		fields: func(p *page) {
			p.header(r.Header)
			for _, e := range r.Events {
				p.field("Type", e.GetType())
				if e.GetPrevKv() != nil {
					p.keyValueFields("Prev", e.GetPrevKv())
				}
				p.keyValueFields("", e.GetKv())
			}
		},
		protobuf: &pb.WatchResponse{Header: r.Header, Created: r.Created, Canceled: r.Canceled,
			CompactRevision: r.CompactRevision, CancelReason: r.CancelReason, Events: r.Events},
	}
}
