package ctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ashlar-kv/ashlar/internal/ctl"
	"github.com/ashlar-kv/ashlar/internal/util"
)

// terminal is a pseudo-terminal: a command has one end, the test sits before the other.
type terminal struct {
	keyboard *os.File // and screen
	command  *os.File
	shows    *growing
}

// openTerminal skips the test, by name, where there are no pseudo-terminals.
func openTerminal(t *testing.T) *terminal {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("%s SKIPPED: there are no pseudo-terminals here: %v", t.Name(), err)
	}
	number, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(keyboard.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 100})
	}
	if err != nil {
		t.Fatal(err)
	}
	command, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("%s SKIPPED: there are no pseudo-terminals here: %v", t.Name(), err)
	}
	tty := &terminal{keyboard: keyboard, command: command, shows: newGrowing()}
	read := make(chan struct{})
	go func() {
		io.Copy(tty.shows, keyboard) // ends with EIO once the other end is closed
		close(read)
	}()
	t.Cleanup(func() {
		command.Close()
		<-read
		keyboard.Close()
	})
	return tty
}

func (tty *terminal) types(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(tty.keyboard, text); err != nil {
		t.Fatal(err)
	}
}

// start runs a command on the terminal; stop ends it as a signal would.
func (tty *terminal) start(t *testing.T, m member, args ...string) *command {
	t.Helper()
	return tty.startWith(t, m, []string{"TERM=xterm"}, tty.command, args...)
}

func (tty *terminal) startWith(t *testing.T, m member, environ []string, stdout io.Writer, args ...string) *command {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	c := &command{stop: stop, ended: make(chan struct{})}
	go func() {
		c.status = ctl.Run(ctx, ctl.Process{Program: "ashlar ctl", Args: args, Stdin: tty.command, Stdout: stdout, Stderr: tty.command,
			Environ: append(slices.Clone(environ), m.environ(args)...)})
		close(c.ended)
	}()
	t.Cleanup(func() { c.end(t) })
	return c
}

// run runs a command to its end and returns what the terminal shows of it.
func (tty *terminal) run(t *testing.T, m member, args ...string) (shown string, status int) {
	t.Helper()
	before := len(tty.shows.String())
	c := tty.start(t, m, args...)
	c.wait(t)
	fmt.Fprintln(tty.command, "<end>")
	tty.shows.waitForAfter(t, before, "<end>\r\n")
	shown, _, _ = strings.Cut(tty.shows.String()[before:], "<end>\r\n")
	return strings.ReplaceAll(shown, "\r\n", "\n"), c.status
}

func TestATerminalGetsColoursAndTables(t *testing.T) {
	t.Parallel()
	m, tty := startMember(t), openTerminal(t)
	m.must(t, "put", "k", "v")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"get", "k"}, "\x1b[36mk\x1b[0m\nv\n"},
		{[]string{"get", "k", "-w", "fields"}, "\"Key\" : \"k\"\n"},
		{[]string{"history", "k"}, "\x1b[1mrevision 2\x1b[0m  version 1, 1 bytes\n\x1b[32m  +v\x1b[0m\n"},
		{[]string{"du"}, "         2 B           1  \x1b[36m(all)\x1b[0m\n"},
		{[]string{"diff", "1"}, "\x1b[32m+ k\x1b[0m\n"},
		{[]string{"member", "list"}, "┌──────"},
		{[]string{"endpoint", "health"}, " ENDPOINT "},
		{[]string{"member", "list", "-w", "simple"}, ", started, m, http"},
		{[]string{"get"}, "\x1b[31mError:\x1b[0m get command needs one argument"},
		{[]string{"bogus"}, "\x1b[31mError:\x1b[0m unknown command"},
		{[]string{"doctor"}, "\x1b[1mcluster\x1b[0m: one member alone"},
	} {
		if got, _ := tty.run(t, m, c.args...); !strings.Contains(got, c.want) {
			t.Errorf("%q: got %q, want %q in it", c.args, got, c.want)
		}
	}
}

func TestColoursCanBeRefusedAndAPipeGetsNone(t *testing.T) {
	t.Parallel()
	m, tty := startMember(t), openTerminal(t)
	m.must(t, "put", "k", "v")
	for _, environ := range [][]string{{"NO_COLOR=1"}, {"TERM=dumb"}} {
		before := len(tty.shows.String())
		tty.startWith(t, m, environ, tty.command, "get", "k").wait(t)
		tty.shows.waitForAfter(t, before, "k\r\nv\r\n")
		if got := tty.shows.String()[before:]; strings.Contains(got, "\x1b") {
			t.Errorf("%s: got %q", environ, got)
		}
	}
	// Standard output is a pipe, although somebody sits there.
	for _, args := range [][]string{{"get", "k"}, {"member", "list"}, {"endpoint", "status"}, {"history", "k"}, {"du"}, {"export"}, {"doctor"}} {
		var onTerminal bytes.Buffer
		tty.startWith(t, m, nil, &onTerminal, args...).wait(t)
		got := m.own(t, "", args...).stdout
		differs := regexp.MustCompile(`\d+`) // raft's indexes grow with each read
		if a, b := differs.ReplaceAllString(onTerminal.String(), ""), differs.ReplaceAllString(got, ""); a != b || a == "" {
			t.Errorf("%q: got %q, want %q", args, a, b)
		}
	}
}

func TestWhatCannotBeUndoneIsConfirmed(t *testing.T) {
	t.Parallel()
	m, tty := startMember(t), openTerminal(t)
	m.must(t, "put", "k", "v")
	for _, c := range []struct {
		args     []string
		question string
	}{
		{[]string{"del", "", "--prefix"}, "This deletes every key of the cluster. Type yes to go on: "},
		{[]string{"del", "", "--from-key"}, "This deletes every key"},
		{[]string{"del", "\x00", "--from-key"}, "This deletes every key"},
		{[]string{"del", "\x00", "\x00", "--range"}, "This deletes every key"},
		{[]string{"auth", "disable"}, "Whoever reaches the cluster will read and write everything. Type yes to go on: "},
		{[]string{"member", "remove", "abc"}, "This removes member abc for good"},
	} {
		for _, answer := range []string{"no\n", "\n", "y\n", "yes!\n", "\x04"} {
			before := len(tty.shows.String())
			run := tty.start(t, m, c.args...)
			tty.shows.waitForAfter(t, before, c.question)
			tty.types(t, answer)
			run.wait(t)
			tty.shows.waitForAfter(t, before, "not confirmed; nothing was done")
			if run.status != 1 {
				t.Errorf("%q, %q: status %d", c.args, answer, run.status)
			}
		}
	}
	if got := m.must(t, "get", "k", "--print-value-only"); got != "v\n" {
		t.Fatalf("it was deleted without a yes: %q", got)
	}
	// What is not everything is not asked for, nor is a script.
	if got, status := tty.run(t, m, "del", "x", "--prefix"); status != 0 || got != "0\n" {
		t.Errorf("got %q, %d", got, status)
	}
	m.must(t, "put", "x", "v")
	run := tty.startWith(t, m, nil, &bytes.Buffer{}, "del", "", "--prefix")
	run.wait(t)
	if got := m.must(t, "get", "", "--prefix"); run.status != 0 || got != "" {
		t.Errorf("%d, left %q", run.status, got)
	}
	m.must(t, "put", "k", "v")
	before := len(tty.shows.String())
	run = tty.start(t, m, "del", "", "--prefix")
	tty.shows.waitForAfter(t, before, "Type yes to go on: ")
	tty.types(t, "yes\n")
	run.wait(t)
	if got := m.must(t, "get", "", "--prefix"); run.status != 0 || got != "" {
		t.Errorf("%d, left %q", run.status, got)
	}
}

func TestTheShellCompletesCommandsFlagsAndKeys(t *testing.T) {
	t.Parallel()
	m, tty := startMember(t), openTerminal(t)
	for _, key := range []string{"/apps/blue/1", "/apps/blue/2", "/apps/green", "/other", "/with space"} {
		m.must(t, "put", key, "of "+key)
	}
	c := tty.start(t, m, "shell")
	seen := 0
	expect := func(what string) {
		t.Helper()
		tty.shows.waitForAfter(t, seen, what)
		seen += strings.Index(tty.shows.String()[seen:], what) + len(what)
	}
	expect("ashlar> ")
	tty.types(t, "hist\t/a\t\t") // to history /apps/, where there are two ways on
	expect("history ")
	expect("/apps/")
	expect("/apps/blue/  /apps/green\r\n")
	tty.types(t, "g\t\r")
	expect("+of /apps/green")
	expect("ashlar> ")
	tty.types(t, "get /apps/b\t1 --print-v\t\r")
	expect("of /apps/blue/1\r\n")
	expect("ashlar> ")
	tty.types(t, "\x1b[A\r") // the line before, again
	expect("of /apps/blue/1\r\n")
	expect("ashlar> ")
	tty.types(t, "member l\t\r")
	expect("started")
	expect("ashlar> ")
	tty.types(t, "nothing begins like this\t\r")
	expect("unknown command")
	expect("ashlar> ")
	tty.types(t, "exit\r")
	c.wait(t)
	if c.status != 0 {
		t.Errorf("status %d", c.status)
	}
	// The end of the input ends it, too.
	c = tty.start(t, m, "shell")
	expect("ashlar> ")
	tty.types(t, "\x04")
	c.wait(t)
	if c.status != 0 {
		t.Errorf("status %d", c.status)
	}
}

func TestTopDrawsUntilItIsQuit(t *testing.T) {
	t.Parallel()
	m, tty := startMember(t), openTerminal(t)
	c := tty.start(t, m, "top", "--interval=100ms")
	tty.shows.waitFor(t, "\x1b[?1049h")
	tty.shows.waitFor(t, "leader")
	tty.shows.waitForAfter(t, len(tty.shows.String()), "MEMBER") // drawn again
	tty.types(t, "q")
	c.wait(t)
	tty.shows.waitFor(t, "\x1b[?1049l") // the screen from before is back
	if c.status != 0 {
		t.Errorf("status %d", c.status)
	}
	state, err := unix.IoctlGetTermios(int(tty.command.Fd()), unix.TCGETS)
	if err != nil || state.Lflag&unix.ECHO == 0 {
		t.Error(errors.Join(err, errors.New("the terminal does not show what is typed any more")))
	}
}

// TestTheOfflineToolTellsHowFarItIs on a terminal, and takes every line away again; what goes to a pipe is the same.
func TestTheOfflineToolTellsHowFarItIs(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	fill(t, m)
	file, dir := filepath.Join(t.TempDir(), "snapshot"), t.TempDir()
	m.must(t, "snapshot", "save", file)
	restored, backup, point := filepath.Join(dir, "restored"), filepath.Join(dir, "backup"), filepath.Join(dir, "point")
	for _, c := range []struct {
		args  []string
		steps []string
	}{
		{[]string{"snapshot", "restore", file, "--data-dir", restored}, []string{"comparing the checksum", "checking every record", "restoring", "copying the database"}},
		{[]string{"verify", restored}, []string{"reading state-0000000000000001", "reading every record"}},
		{[]string{"snapshot", "status", filepath.Join(restored, "ashlar")}, []string{"reading the state", "writing the database", "summing up"}},
		{[]string{"verify", file}, []string{"comparing the checksum", "checking every record", "summing up"}},
		{[]string{"backup", "create", backup, "--endpoints", m.endpoint}, []string{"transferring", "storing the point"}},
		{[]string{"backup", "create", backup, "--snapshot", file}, []string{"copying", "comparing with the point before"}},
		{[]string{"verify", backup}, []string{"comparing the checksums of point 1", "going through point 2"}},
		{[]string{"backup", "export", backup, point}, []string{"writing point 2"}},
	} {
		run := func(stderr io.Writer) string {
			var stdout bytes.Buffer
			if status := util.Run(t.Context(), util.Process{Program: "ashlar util", Args: c.args, Stdout: &stdout, Stderr: stderr}); status != 0 {
				t.Fatalf("%q: status %d", c.args, status)
			}
			return stdout.String()
		}
		tty := openTerminal(t)
		run(tty.command)
		fmt.Fprintln(tty.command, "<end>")
		tty.shows.waitFor(t, "<end>")
		shown := tty.shows.String()
		for _, step := range c.steps {
			if !strings.Contains(shown, "\r\x1b[K"+step+"  ") {
				t.Errorf("%q: it does not show %q: %q", c.args, step, shown)
			}
		}
		// What is left on the screen is log lines.
		for line := range strings.SplitSeq(strings.ReplaceAll(shown, "\r\n", "\n"), "\n") {
			line = line[strings.LastIndex(line, "\x1b[K")+1:]
			if line = strings.TrimPrefix(line, "[K"); line != "" && line != "<end>" && !strings.Contains(line, "\tinfo\t") && !strings.Contains(line, "\twarn\t") {
				t.Errorf("%q: it leaves %q", c.args, line)
			}
		}
		if c.args[0] == "verify" {
			var piped bytes.Buffer
			run(&piped)
			if strings.Contains(piped.String(), "\x1b") {
				t.Errorf("%q: a pipe gets %q", c.args, piped.String())
			}
		}
	}
}
