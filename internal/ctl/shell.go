package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/ashlar-kv/ashlar/internal/progress"
)

// shellLineMax bounds a line that is not typed at a terminal.
const shellLineMax = 1 << 20

func (s *session) shellCommand() *cobra.Command {
	c := &cobra.Command{Use: "shell", Short: "Runs commands one after the other, with completion of keys",
		Long: "Reads commands, without the program's name, and runs them with the flags that the shell was given.\n" +
			" At a terminal lines can be edited, the arrow keys fetch earlier ones, and Tab completes commands, flags and keys.\n" +
			"exit, or the end of the input, ends it."}
	c.RunE = s.run(func(ctx context.Context, args []string) error {
		if len(args) > 0 {
			return badArguments("shell needs no argument")
		}
		client, err := s.connect()
		if err != nil {
			return err
		}
		h := &shell{s: s, globals: s.givenGlobals(c.InheritedFlags())}
		if s.settings.user != "" && s.settings.password == "" { // it may have been asked for, once is enough
			h.globals = append(h.unsaid([]string{"--user"}), "--user="+client.Username, "--password="+client.Password)
		}
		if progress.IsTerminal(s.Stdin) && progress.IsTerminal(s.Stdout) {
			return h.terminal(ctx)
		}
		return h.lines(ctx)
	})
	return c
}

// givenGlobals returns the global flags that differ from their defaults, by command line or variable, as arguments.
func (s *session) givenGlobals(flags *pflag.FlagSet) []string {
	var out []string
	flags.VisitAll(func(f *pflag.Flag) {
		value := f.Value.String()
		if value == f.DefValue || f.Name == "help" || f.Name == "max-recv-bytes" && !f.Changed {
			return
		}
		if many, ok := f.Value.(pflag.SliceValue); ok {
			value = strings.Join(many.GetSlice(), ",")
		}
		out = append(out, "--"+f.Name+"="+value)
	})
	return out
}

// shell runs lines.
type shell struct {
	s       *session
	globals []string
	status  int // of the last command
}

// lines runs what comes from a pipe. The status of the shell is that of the last command.
func (h *shell) lines(ctx context.Context) error {
	for {
		line, err := h.readLine()
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if h.run(ctx, line) || err != nil {
			break
		}
	}
	if h.status != 0 {
		return silent(h.status)
	}
	return nil
}

func (h *shell) readLine() (string, error) {
	var line []byte
	for {
		part, err := h.s.input.ReadSlice('\n')
		if line = append(line, part...); len(line) > shellLineMax {
			return "", badInput("a line is longer than %d bytes", shellLineMax)
		}
		if err == nil || !errors.Is(err, errBufferFull) {
			return string(line), err
		}
	}
}

// run runs one line; done tells that it was the last.
func (h *shell) run(ctx context.Context, line string) (done bool) {
	args := words(line)
	switch {
	case len(args) == 0 || strings.HasPrefix(args[0], "#"):
		return false
	case args[0] == "exit" || args[0] == "quit":
		return true
	case args[0] == "shell":
		fmt.Fprintln(h.s.Stderr, "Error: this is the shell")
		h.status = statusError
		return false
	}
	h.status = h.execute(ctx, args, h.s.Stdout, h.s.Stderr)
	return false
}

// execute runs a command in a session of its own. Variables that stand for flags are among the globals already.
func (h *shell) execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var environ []string
	for _, v := range h.s.Environ {
		if !strings.HasPrefix(v, variablePrefix) {
			environ = append(environ, v)
		}
	}
	p := h.s.Process
	p.Environ, p.Stdout, p.Stderr = environ, stdout, stderr
	s := newSession(p)
	if !progress.IsTerminal(p.Stdin) {
		s.input, s.inShell = h.s.input, true // the lines that follow are a command's input, too, as in any shell
	}
	defer s.close()
	s.Args = args
	if args[0] != cobra.ShellCompRequestCmd {
		s.Args = append(h.unsaid(args), args...)
	}
	return s.execute(ctx)
}

// unsaid returns the globals that a line does not set itself.
func (h *shell) unsaid(args []string) []string {
	var out []string
	for _, g := range h.globals {
		name, _, _ := strings.Cut(g, "=")
		said := false
		for _, a := range args {
			said = said || a == name || strings.HasPrefix(a, name+"=") ||
				name == "--password" && (a == "--user" || strings.HasPrefix(a, "--user=")) // it is the other user's
		}
		if !said {
			out = append(out, g)
		}
	}
	return out
}

// terminal reads lines from a terminal. The terminal is raw only while a line is typed, so that commands find it as usual.
func (h *shell) terminal(ctx context.Context) error {
	in, out := h.s.Stdin.(*os.File), h.s.Stdout.(*os.File)
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{in, out}, h.s.paint().bold("ashlar> "))
	t.AutoCompleteCallback = func(line string, pos int, key rune) (string, int, bool) {
		if key != '\t' {
			return "", 0, false
		}
		return h.complete(ctx, t, line, pos)
	}
	for {
		line, err := typedLine(t, in, out)
		switch {
		case errors.Is(err, io.EOF):
			fmt.Fprintln(out)
			return nil
		case err != nil:
			return fmt.Errorf("reading a line: %w", err)
		case h.runTyped(ctx, line):
			return nil
		}
	}
}

// runTyped runs a line that Ctrl-C ends, and not the shell.
func (h *shell) runTyped(ctx context.Context, line string) (done bool) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	return h.run(ctx, line)
}

// typedLine reads one line in raw mode. Ctrl-C and Ctrl-D on an empty line end the input.
func typedLine(t *term.Terminal, in, out *os.File) (string, error) {
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return "", fmt.Errorf("preparing the terminal: %w", err)
	}
	defer func() { _ = term.Restore(int(in.Fd()), before) }()
	if width, height, err := term.GetSize(int(out.Fd())); err == nil && width > 0 {
		_ = t.SetSize(width, height)
	}
	line, err := t.ReadLine()
	if errors.Is(err, term.ErrPasteIndicator) {
		err = nil
	}
	return line, err
}
