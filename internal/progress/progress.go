// Package progress draws, on a terminal, a line that tells how far long work is.
//
// # Words
//
// A terminal is where lines are drawn; anything that is not one gets nothing, so that pipes and files stay as they were. A line
// is one piece of work: what is done, of how much, and how fast. A command hands its terminal down in a context (On); who does
// long work begins a line (Begin); and who reads bytes tells how many (Add), not knowing for whom.
//
// # Concurrency
//
// A line belongs to one goroutine. A Terminal may be written to from several.
package progress

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// interval is how often a line is drawn.
const interval = 100 * time.Millisecond

const barWidth = 30

// clearLine takes away what stands in the line of the cursor.
const clearLine = "\r\x1b[K"

// IsTerminal tells whether a stream of the process is a terminal.
func IsTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Terminal is a terminal on which lines are drawn. What is written to it takes the place of the line that stands there. A nil
// one draws nothing.
type Terminal struct {
	mu    sync.Mutex // guards what follows
	w     io.Writer
	drawn bool
}

// NewTerminal returns the terminal that a stream is, nil when it is none.
func NewTerminal(stream any) *Terminal {
	if !IsTerminal(stream) {
		return nil
	}
	return &Terminal{w: stream.(*os.File)}
}

// Write implements io.Writer.
func (t *Terminal) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clearLocked()
	return t.w.Write(b)
}

func (t *Terminal) clearLocked() {
	if t.drawn {
		t.drawn = false
		_, _ = io.WriteString(t.w, clearLine) // a line that cannot be drawn is missed by nobody
	}
}

func (t *Terminal) draw(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drawn = true
	_, _ = io.WriteString(t.w, clearLine+line)
}

func (t *Terminal) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clearLocked()
}

// Line is a line that tells how far a piece of work is. A nil one is silent.
type Line struct {
	t     *Terminal
	what  string
	unit  func(int64) string
	total int64 // 0: not known
	done  int64
	start time.Time
	drawn time.Time
}

// Start begins a line for what is done, "" for nothing that is to be said; unit spells amounts, total is how much there is, 0
// when that is not known. It returns nil for a nil terminal.
func (t *Terminal) Start(what string, unit func(int64) string, total int64) *Line {
	if t == nil {
		return nil
	}
	return &Line{t: t, what: what, unit: unit, total: total, start: time.Now()}
}

// Add tells that n more is done.
func (l *Line) Add(n int64) {
	if l == nil {
		return
	}
	l.done += n
	now := time.Now()
	if now.Sub(l.drawn) < interval {
		return
	}
	l.drawn = now
	l.t.draw(l.text(now.Sub(l.start)))
}

// Reach tells that so much is done in all.
func (l *Line) Reach(done int64) {
	if l != nil {
		l.Add(done - l.done)
	}
}

// Expect tells how much there is in all.
func (l *Line) Expect(total int64) {
	if l != nil {
		l.total = total
	}
}

// Write counts bytes that pass, so that a line may stand in a chain of writers.
func (l *Line) Write(b []byte) (int, error) {
	l.Add(int64(len(b)))
	return len(b), nil
}

// End takes the line away.
func (l *Line) End() {
	if l != nil {
		l.t.clear()
	}
}

func (l *Line) text(passed time.Duration) string {
	text := l.unit(int64(float64(l.done)/max(passed.Seconds(), 0.001))) + "/s"
	if l.total <= 0 {
		text = l.unit(l.done) + "  " + text
	} else {
		part := min(1, float64(l.done)/float64(l.total))
		full := int(part * barWidth)
		text = fmt.Sprintf("[%s%s] %3.0f%%  %s of %s  %s", strings.Repeat("█", full), strings.Repeat("·", barWidth-full), part*100,
			l.unit(l.done), l.unit(l.total), text)
	}
	if l.what != "" {
		text = l.what + "  " + text
	}
	return text
}

type terminalKey struct{}

type lineKey struct{}

// On returns a context whose work is shown on a terminal, which may be nil.
func On(ctx context.Context, t *Terminal) context.Context {
	return context.WithValue(ctx, terminalKey{}, t)
}

// Begin begins a line of bytes on the context's terminal, if it has one, and returns a context in which Add tells that line.
// The caller ends it.
func Begin(ctx context.Context, what string, total int64) (context.Context, *Line) {
	t, _ := ctx.Value(terminalKey{}).(*Terminal)
	l := t.Start(what, Bytes, total)
	return context.WithValue(ctx, lineKey{}, l), l
}

// Of returns the line that the context's work is shown by, nil when it is not shown.
func Of(ctx context.Context) *Line {
	l, _ := ctx.Value(lineKey{}).(*Line)
	return l
}

// Bytes spells a number of bytes as people read it, with a decimal unit and about two digits, rounded as etcd's tools do: 25 kB,
// 2.1 GB.
func Bytes(n int64) string {
	if n < 10 {
		return fmt.Sprintf("%d B", n)
	}
	units := []string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}
	size, unit := float64(n), 0
	for size >= 1000 && unit < len(units)-1 {
		size /= 1000
		unit++
	}
	if size = float64(int64(size*10+0.5)) / 10; size < 10 {
		return fmt.Sprintf("%.1f %s", size, units[unit])
	}
	return fmt.Sprintf("%.0f %s", size, units[unit])
}
