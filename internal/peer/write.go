package peer

import (
	"context"
	"errors"
	"net/http"
	"runtime"

	"go.etcd.io/raft/v3/raftpb"
)

// writeAt is at how many bytes what was encoded is written, although more may wait.
const writeAt = 256 << 10

// write writes what is sent to the remote into the answer of its GET, until that breaks or it makes another one.
func (r *remote) write(ctx context.Context, k streamKind, w http.ResponseWriter) {
	box := r.streams[k]
	s := &streamWriter{r: r, w: w, rc: http.NewResponseController(w), enc: k.encoder()}
	if s.write() != nil { // the header: the remote waits for it
		return
	}
	t := box.open()
	defer box.close(t)
	beat := r.t.cfg.Clock.NewTicker(heartbeatEvery)
	defer beat.Stop()
	for {
		var err error
		select {
		case <-box.wake:
			runtime.Gosched() // whoever can run may have more for this write
			err = s.messages(box.take(t))
		case <-beat.C():
			s.buf = s.enc.appendHeartbeat(s.buf)
			err = s.write()
		case <-t.gone:
			return
		case <-ctx.Done():
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
	r   *remote
	w   http.ResponseWriter
	rc  *http.ResponseController
	enc encoder
	buf []byte
}

func (s *streamWriter) messages(ms []*raftpb.Message) (err error) {
	for _, m := range ms {
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
func (s *streamWriter) write() error {
	err := s.rc.SetWriteDeadline(s.r.t.cfg.Clock.Now().Add(s.r.t.cfg.WriteTimeout))
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if len(s.buf) > 0 {
		if _, err := s.w.Write(s.buf); err != nil {
			return err
		}
		s.r.measures.Sent.Add(uint64(len(s.buf)))
	}
	if s.buf = s.buf[:0]; cap(s.buf) > keptBuffer {
		s.buf = nil
	}
	return s.rc.Flush()
}
