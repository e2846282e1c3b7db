package peer

import (
	"errors"
	"net/http"
	"runtime"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// writeAt is at how many bytes what was encoded is written, although more may wait.
const writeAt = 256 << 10

// write writes what is sent to the remote into the answer of its GET, until that breaks or it makes another one.
func (r *remote) write(req *http.Request, k streamKind, w http.ResponseWriter) {
	box := r.streams[k]
	s := &streamWriter{r: r, w: w, rc: http.NewResponseController(w), enc: k.encoder()}
	if s.write() != nil { // the header: the remote waits for it
		return
	}
	s.line = lineOf(req)
	t := box.open(s)
	defer s.end()
	defer box.close(t)
	beat := r.t.cfg.Clock.NewTicker(heartbeatEvery)
	defer beat.Stop()
	for {
		var err error
		select {
		case <-box.wake:
			runtime.Gosched() // whoever can run may have more for this write
			s.mu.Lock()
			err = s.messages(box.take(t))
			s.mu.Unlock()
		case <-beat.C():
			s.mu.Lock()
			s.begin()
			s.buf = s.enc.appendHeartbeat(s.buf)
			err = s.write()
			s.mu.Unlock()
		case <-t.gone:
			return
		case <-req.Context().Done():
			return
		case <-r.ctx.Done():
			return
		}
		if err != nil {
			r.log.Info("a stream to another member broke", "error", err)
			r.lost()
			return
		}
	}
}

// streamWriter encodes messages and writes them out in large pieces.
type streamWriter struct {
	r    *remote
	w    http.ResponseWriter
	rc   *http.ResponseController
	line *line // nil: all goes through w

	mu  sync.Mutex // guards what follows; held over I/O
	enc encoder
	buf []byte
	err error // of a message that its sender wrote
}

// begin makes room in an empty buffer for what goes before messages.
func (s *streamWriter) begin() {
	if len(s.buf) == 0 && s.line != nil {
		s.buf = append(s.buf, chunkHead...)
	}
}

func (s *streamWriter) messages(ms []*raftpb.Message) (err error) {
	if s.err != nil {
		return s.err
	}
	for _, m := range ms {
		s.begin()
		if s.buf, err = s.enc.append(s.buf, m); err != nil {
			return err
		}
		if len(s.buf) >= writeAt {
			if err := s.write(); err != nil {
				return err
			}
		}
	}
	return s.write()
}

// write writes what is encoded. It takes Config.WriteTimeout at the longest.
func (s *streamWriter) write() (err error) {
	deadline := s.r.t.cfg.Clock.Now().Add(s.r.t.cfg.WriteTimeout)
	if s.line != nil {
		err = s.line.write(s.chunk(), deadline)
	} else {
		err = s.writeAnswer(deadline)
	}
	if err != nil {
		return err
	}
	s.written()
	return nil
}

// written empties the buffer.
func (s *streamWriter) written() {
	s.r.measures.Sent.Add(uint64(len(s.buf)))
	if s.buf = s.buf[:0]; cap(s.buf) > keptBuffer {
		s.buf = nil
	}
}

func (s *streamWriter) writeAnswer(deadline time.Time) error {
	if err := s.rc.SetWriteDeadline(deadline); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if len(s.buf) > 0 {
		if _, err := s.w.Write(s.buf); err != nil {
			return err
		}
	}
	return s.rc.Flush()
}
