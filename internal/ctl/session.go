package ctl

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/internal/logging"
	"github.com/ashlar-kv/ashlar/internal/progress"
)

// session is one run of one command.
type session struct {
	Process
	settings settings
	log      *slog.Logger
	printer  printer
	freeForm bool                 // nobody asked for a form: a terminal gets the one that is read best
	auth     *clientv3.AuthConfig // nil until it is needed: a password is asked for once
	client   *clientv3.Client     // nil until connect
	input    *bufio.Reader        // standard input: all of a session reads from here, so that nothing is lost in between
	inShell  bool                 // input is that of a shell, whose lines follow
	printing sync.Mutex           // held while a reply is printed: interactive watches print at once
}

func newSession(p Process) *session {
	if p.Stdin == nil {
		p.Stdin = strings.NewReader("")
	}
	return &session{Process: p, input: bufio.NewReader(p.Stdin), log: slog.New(logging.NewHandler(p.Stderr, slog.LevelWarn, false))}
}

// close ends the client's connections.
func (s *session) close() {
	if s.client != nil {
		_ = s.client.Close() // nothing is lost that was acknowledged
	}
}

// connect prepares the printer and the client; no byte is sent yet, except for a token when there is a user.
func (s *session) connect() (*clientv3.Client, error) {
	if err := s.choosePrinter(); err != nil {
		return nil, err
	}
	if s.client != nil {
		return s.client, nil
	}
	spec, err := s.clientSpec()
	if err != nil {
		return nil, err
	}
	c, err := s.dial(spec)
	if err != nil {
		return nil, err
	}
	s.client = c
	return c, nil
}

// choosePrinter fails with status 4 when the format is not known.
func (s *session) choosePrinter() error {
	p, ok := printers[s.settings.format]
	if !ok {
		return badFeature("unsupported output format")
	}
	s.printer = p
	return nil
}

// request returns a context with the time limit of one request.
func (s *session) request(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.settings.commandTimeout)
}

// ask connects and runs one request with its time limit.
func (s *session) ask(ctx context.Context, request func(context.Context, *clientv3.Client) error) error {
	c, err := s.connect()
	if err != nil {
		return err
	}
	ctx, cancel := s.request(ctx)
	defer cancel()
	return request(ctx, c)
}

// print writes a reply in the format asked for. It may be called from any goroutine.
func (s *session) print(r reply) error {
	s.printing.Lock()
	defer s.printing.Unlock()
	form := s.printer
	if r.table != nil && s.freeForm && progress.IsTerminal(s.Stdout) {
		form = printers["table"]
	}
	return form.print(&page{Writer: s.Stdout, hex: s.settings.hex, paint: s.paint()}, r)
}

// action is what a command does after its arguments were split from its flags.
type action func(ctx context.Context, args []string) error

// run makes a cobra runner out of an action: an error that says no status of its own ends with status 1.
func (s *session) run(a action) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := a(cmd.Context(), args)
		var f *failure
		if err == nil || errors.As(err, &f) {
			return err
		}
		return fail(statusError, err)
	}
}

// group returns a command that only holds others; alone it prints its help.
func (s *session) group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short}
	c.AddCommand(commands...)
	return c
}
