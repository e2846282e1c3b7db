package audit

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"sync"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// QueueMax is how many bytes of lines may wait to be written.
const QueueMax = 4 << 20

// Options describe a log.
type Options struct {
	// Path is the file.
	Path string
	// MaxBytes is the size of one file, and Kept the number of full ones that are kept beside it.
	MaxBytes int64
	Kept     int
	// Clock tells the time of lines about dropped ones.
	Clock clock.Clock
	// Logger is told when lines are lost, and why.
	Logger *slog.Logger
}

// Log is an audit log. Its methods may be called from any goroutine. A nil Log writes nothing.
type Log struct {
	o    Options
	file *file         // of the writing goroutine
	wake chan struct{} // holds one when there is something to write
	stop chan struct{} // closed by Close
	done chan struct{} // closed when the last line is written

	mu      sync.Mutex
	queue   []byte
	spare   []byte // the queue's other half, while it is not being written
	dropped int64  // lines that found no room, since the last line that told of them
	closed  bool

	lost   int64 // lines that could not be written, since the last that told of them; of the writing goroutine
	failed bool  // the last write did
}

// Open opens the log. The error names the file.
func Open(o Options) (*Log, error) {
	f, err := openFile(o.Path, o.MaxBytes, o.Kept)
	if err != nil {
		return nil, err
	}
	l := &Log{o: o, file: f, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go l.write()
	return l, nil
}

// Add writes down a request. It does not wait, and keeps nothing of r.
func (l *Log) Add(r *Record) {
	if l == nil {
		return
	}
	b, err := r.encode()
	l.mu.Lock()
	if err != nil || l.closed || len(l.queue)+len(b) > QueueMax {
		l.dropped++
	} else {
		l.queue = append(l.queue, b...)
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Close writes what waits and closes the file. Records added afterwards are dropped.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	again := l.closed
	l.closed = true
	l.mu.Unlock()
	if again {
		return nil
	}
	close(l.stop)
	<-l.done
	return l.file.close()
}

// write writes what is queued until the log is closed.
func (l *Log) write() {
	defer close(l.done)
	for {
		select {
		case <-l.wake:
			l.flush()
		case <-l.stop:
			l.flush()
			return
		}
	}
}

// flush writes all that waits, in one write for each file.
func (l *Log) flush() {
	l.mu.Lock()
	lines, dropped := l.queue, l.dropped
	l.queue, l.spare, l.dropped = l.spare[:0], nil, 0
	l.mu.Unlock()
	l.lost += dropped
	if dropped > 0 {
		l.o.Logger.Warn("the audit log is behind: lines were dropped", "lines", dropped)
	}
	// What was dropped came after what was queued.
	l.put(lines)
	if l.lost > 0 && !l.failed {
		l.tell()
	}
	l.mu.Lock()
	l.spare = lines
	l.mu.Unlock()
}

// tell writes how many lines are missing here.
func (l *Log) tell() {
	b, err := json.Marshal(struct {
		Time    string `json:"time"`
		Dropped int64  `json:"dropped"`
	}{l.o.Clock.Now().UTC().Format(timeLayout), l.lost})
	if err != nil {
		return // it has no other fields
	}
	told := l.lost
	if l.put(append(b, '\n')); !l.failed {
		l.lost -= told
	}
}

// put writes lines, and counts those that it could not.
func (l *Log) put(lines []byte) {
	n, err := l.file.append(lines)
	if err != nil {
		l.lost += int64(bytes.Count(lines[n:], []byte{'\n'}))
	}
	switch {
	case err != nil && !l.failed:
		l.o.Logger.Error("the audit log cannot be written", "error", err.Error())
	case err == nil && l.failed && len(lines) > 0:
		l.o.Logger.Info("the audit log can be written again")
	}
	l.failed = err != nil
}
