package process

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
)

// Log collects what a process writes and lets tests wait for a part of it. It may be used from any goroutine.
// The lock guards all fields; nothing is called while it is held.
type Log struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed, and replaced, at every write
}

func newLog() *Log { return &Log{changed: make(chan struct{})} }

// Write implements io.Writer for the process.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
	return l.text.Write(p)
}

// String is everything written so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Contains says whether a part has been written.
func (l *Log) Contains(part string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.text.Bytes(), []byte(part))
}

// Tail is at most the last n lines.
func (l *Log) Tail(n int) string {
	lines := strings.Split(strings.TrimRight(l.String(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Last is the last line with a text; empty when there is none.
func (l *Log) Last(text string) string {
	for _, line := range slices.Backward(strings.Split(l.String(), "\n")) {
		if strings.Contains(line, text) {
			return line
		}
	}
	return ""
}

// waitFor returns true once part has been written, false when ctx or the process ended before.
func (l *Log) waitFor(ctx context.Context, part string, ended <-chan struct{}) bool {
	for {
		l.mu.Lock()
		found, changed := bytes.Contains(l.text.Bytes(), []byte(part)), l.changed
		l.mu.Unlock()
		if found {
			return true
		}
		select {
		case <-changed:
		case <-ended:
			return l.Contains(part)
		case <-ctx.Done():
			return false
		}
	}
}
