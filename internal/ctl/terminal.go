package ctl

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// isTerminal tells whether a stream of the process is a terminal. Whatever is kinder than etcdctl asks this first: a pipe
// gets etcdctl's bytes.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// paint colours text, or leaves it alone.
type paint bool

// paint tells whether standard output takes colours.
func (s *session) paint() paint { return s.paintOn(s.Stdout) }

// paintOn tells whether a stream takes colours: it is a terminal, and neither NO_COLOR nor TERM=dumb refuses them.
func (s *session) paintOn(stream any) paint {
	return paint(isTerminal(stream) && s.lookup("NO_COLOR") == "" && s.lookup("TERM") != "dumb")
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
	if !isTerminal(s.Stdin) || !isTerminal(s.Stdout) || !isTerminal(s.Stderr) {
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

// progressInterval is how often a progress bar is drawn.
const progressInterval = 100 * time.Millisecond

// progress is a line on a terminal that tells how far long work is. Without a terminal it is silent.
type progress struct {
	w     io.Writer // nil: silent
	unit  func(int64) string
	total int64 // 0: not known
	done  int64
	start time.Time
	drawn time.Time
}

// startProgress begins a bar on standard error; unit spells amounts.
func (s *session) startProgress(unit func(int64) string, total int64) *progress {
	p := &progress{unit: unit, total: total, start: time.Now()}
	if isTerminal(s.Stderr) {
		p.w = s.Stderr
	}
	return p
}

// add tells that n more is done.
func (p *progress) add(n int64) {
	p.done += n
	if p.w == nil || time.Since(p.drawn) < progressInterval {
		return
	}
	p.drawn = time.Now()
	fmt.Fprint(p.w, "\r\x1b[K"+p.line(time.Since(p.start)))
}

const barWidth = 30

func (p *progress) line(passed time.Duration) string {
	rate := p.unit(int64(float64(p.done)/max(passed.Seconds(), 0.001))) + "/s"
	if p.total <= 0 {
		return fmt.Sprintf("%s  %s", p.unit(p.done), rate)
	}
	part := min(1, float64(p.done)/float64(p.total))
	full := int(part * barWidth)
	return fmt.Sprintf("[%s%s] %3.0f%%  %s of %s  %s", strings.Repeat("█", full), strings.Repeat("·", barWidth-full), part*100,
		p.unit(p.done), p.unit(p.total), rate)
}

// end takes the line away.
func (p *progress) end() {
	if p.w != nil {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// Write counts bytes that pass, so that a progress may stand in a chain of writers.
func (p *progress) Write(b []byte) (int, error) {
	p.add(int64(len(b)))
	return len(b), nil
}

// keyCount spells a number of keys.
func keyCount(n int64) string { return fmt.Sprintf("%d keys", n) }
