package peer

import (
	"context"
	"net"
	"net/http"
	"syscall"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// directBytesMax bounds a message that its sender writes: larger ones are encoded by the stream's own goroutine.
const directBytesMax = 8 << 10

// line is the connection below a stream. What is sent while the stream is idle is written to it by the sender himself, as much as the
// kernel takes at once: the goroutine of the stream would have to be woken, and a thread for it, on the way of each request and of
// each answer. That is for connections in the clear, since of an encrypted record no part can be left for later.
//
// Pieces of the answer are framed here as HTTP/1.1 has it ("chunked"), whoever writes them: the HTTP server writes nothing between the
// header and the end of the answer, and would make three pieces of each, encrypted records of their own. streamWriter.mu guards
// all but conn.
type line struct {
	conn net.Conn
	raw  syscall.RawConn // nil where no sender may write
	left []byte          // of what was written at once: it goes before all else
	// broken says that a chunk was begun that has no end.
	broken bool

	// of an attempt to write at once
	out     []byte
	n       int
	err     error
	attempt func(fd uintptr) bool
}

// Of a chunk: its length in hexadecimal digits before it, of which there may be too many, and an end of line behind each.
const (
	chunkDigits = 8
	chunkHead   = "00000000\r\n"
	chunkEnd    = "\r\n"
)

type connKey struct{}

// ConnContext is for the http.Server that serves Handler: with it streams are written without a detour.
func (t *Transport) ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// lineOf returns the line below the answer to a request, nil when its connection is not known, or it is not HTTP/1.1.
func lineOf(req *http.Request) *line {
	conn, ok := req.Context().Value(connKey{}).(net.Conn)
	if !ok || req.ProtoMajor != 1 || req.ProtoMinor != 1 {
		return nil
	}
	l := &line{conn: conn}
	if conn.SetWriteDeadline(time.Time{}) != nil { // that of the header
		return nil
	}
	if plain, ok := conn.(syscall.Conn); ok && canAttempt && req.TLS == nil {
		raw, err := plain.SyscallConn()
		if err != nil {
			return nil
		}
		l.raw = raw
		l.attempt = func(fd uintptr) bool {
			l.n, l.err = attemptWrite(fd, l.out)
			return true // it does not wait
		}
	}
	return l
}

// chunk frames what is in the buffer. It is empty for an empty buffer, since that would end the answer.
func (s *streamWriter) chunk() []byte {
	n := len(s.buf) - len(chunkHead)
	if n <= 0 {
		s.buf = s.buf[:0]
		return nil
	}
	const digits = "0123456789abcdef"
	for i := range chunkDigits {
		s.buf[i] = digits[n>>(4*(chunkDigits-1-i))&15]
	}
	s.buf = append(s.buf, chunkEnd...)
	return s.buf
}

// write writes what is left, and then out, before the deadline.
func (l *line) write(out []byte, deadline time.Time) error {
	if len(l.left) == 0 && len(out) == 0 {
		return nil
	}
	if err := l.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	for _, b := range [][]byte{l.left, out} {
		if len(b) == 0 {
			continue
		}
		if _, err := l.conn.Write(b); err != nil {
			l.broken = true
			return err
		}
	}
	l.left = nil
	return l.conn.SetWriteDeadline(time.Time{}) // or attempts fail when it has passed
}

// writeAtOnce writes what the kernel takes of out, which is kept if it does not take all.
func (l *line) writeAtOnce(out []byte) (all bool, err error) {
	l.out = out
	err = l.raw.Write(l.attempt)
	if err == nil {
		err = l.err
	}
	l.out = nil
	if err != nil {
		l.broken = true
		return false, err
	}
	if l.n < len(out) {
		l.left = append([]byte(nil), out[l.n:]...)
	}
	return l.n == len(out), nil
}

// direct says whether m may be written by its sender, who then holds mu and must call writeDirect.
func (s *streamWriter) direct(m *raftpb.Message, size int) bool {
	if s.line == nil || s.line.raw == nil || size > directBytesMax || len(m.GetEntries()) > 1 || !s.mu.TryLock() {
		return false
	}
	if len(s.line.left) > 0 || s.line.broken || s.err != nil {
		s.mu.Unlock()
		return false
	}
	return true
}

// writeDirect writes m as far as that does not block and gives mu back. It reports whether the stream's goroutine is to look
// after the rest.
func (s *streamWriter) writeDirect(m *raftpb.Message) (rest bool) {
	defer s.mu.Unlock()
	s.begin()
	if s.buf, s.err = s.enc.append(s.buf, m); s.err != nil {
		return true
	}
	all, err := s.line.writeAtOnce(s.chunk())
	s.written()
	s.err = err
	return !all
}

// end waits for the last sender who writes. REQUIRES: nobody takes messages to this writer any more.
func (s *streamWriter) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.line != nil && (s.line.broken || len(s.line.left) > 0) {
		_ = s.line.conn.Close() // what the HTTP server adds would be taken for the rest of a chunk
	}
}
