package e2e

import (
	"bytes"
	"context"
	"strings"
	"sync"
)

// serverLog collects what a server writes to stderr and lets tests wait for a part of it.
// The lock guards all fields; nothing is called while it is held.
type serverLog struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed, and replaced, at every write
}

func newServerLog() *serverLog {
	return &serverLog{changed: make(chan struct{})}
}

func (l *serverLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
	return l.text.Write(p)
}

// String is everything written so far.
func (l *serverLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// tail is at most the last n lines.
func (l *serverLog) tail(n int) string {
	lines := strings.Split(strings.TrimRight(l.String(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// waitFor returns true once part has been written, false when ctx or the server ended before.
func (l *serverLog) waitFor(ctx context.Context, part string, ended <-chan struct{}) bool {
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
			return strings.Contains(l.String(), part)
		case <-ctx.Done():
			return false
		}
	}
}
