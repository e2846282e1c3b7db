package ctl

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ashlar-kv/ashlar/internal/progress"
)

// paint colours text, or leaves it alone.
type paint bool

// paint tells whether standard output takes colours.
func (s *session) paint() paint { return s.paintOn(s.Stdout) }

// paintOn tells whether a stream takes colours: it is a terminal, and neither NO_COLOR nor TERM=dumb refuses them.
func (s *session) paintOn(stream any) paint {
	return paint(progress.IsTerminal(stream) && s.lookup("NO_COLOR") == "" && s.lookup("TERM") != "dumb")
}

func (p paint) with(code, text string) string {
	if !p || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p paint) bold(text string) string   { return p.with("1", text) }
func (p paint) dim(text string) string    { return p.with("2", text) }
func (p paint) red(text string) string    { return p.with("31", text) }
func (p paint) green(text string) string  { return p.with("32", text) }
func (p paint) yellow(text string) string { return p.with("33", text) }
func (p paint) cyan(text string) string   { return p.with("36", text) }

// confirm asks before what cannot be undone, when somebody sits before a terminal: none of the streams may be a pipe or
// a file, as those of scripts are. Otherwise it agrees at once. Anything but yes is a no.
func (s *session) confirm(question string) error {
	if !progress.IsTerminal(s.Stdin) || !progress.IsTerminal(s.Stdout) || !progress.IsTerminal(s.Stderr) {
		return nil
	}
	fmt.Fprintf(s.Stderr, "%s Type yes to go on: ", question)
	line, err := s.inputLine()
	if err != nil {
		return err
	}
	if strings.TrimSpace(line) != "yes" {
		return errors.New("not confirmed; nothing was done")
	}
	return nil
}

// startProgress begins a line on standard error; unit spells amounts.
func (s *session) startProgress(unit func(int64) string, total int64) *progress.Line {
	return progress.NewTerminal(s.Stderr).Start("", unit, total)
}

// keyCount spells a number of keys.
func keyCount(n int64) string { return fmt.Sprintf("%d keys", n) }
