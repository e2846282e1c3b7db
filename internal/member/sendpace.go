package member

import (
	"runtime"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/snapshot"
)

const (
	// sendSlice is how many bytes of a state are read between two rests.
	sendSlice = snapshot.BlockBytes
	// sendRestMax bounds a rest, so that no state takes for ever: with slices of 256 KiB, and beside what the reading itself and the
	// receiver take, it leaves 40 MiB a second, several times what a busy cluster adds to its log.
	sendRestMax = 6 * time.Millisecond
	// sendShare is the part of all processors that reading a state takes: one in so many.
	sendShare = 32
)

// sendRest is how long to rest after a slice that took so long to read, with so many processors: the slower the machine and the busier
// it is, the longer, and with many processors not at all.
func sendRest(slice time.Duration, processors int) time.Duration {
	return min(slice*time.Duration(max(sendShare-processors, 0))/time.Duration(processors), sendRestMax)
}

// pacedState is a state on its way to another member that leaves the processors to requests: it rests after each slice. The receiver,
// which works several times as much as the sender, has nothing to do meanwhile, so that this is its pace, too. What the receiver or the
// network take is not counted: while they are behind nobody else is disturbed here.
type pacedState struct {
	*snapshot.Reader
	clock clock.Clock
	stop  <-chan struct{} // closed when the member stops

	processors int
	worked     time.Duration // since the last rest
	bytes      int
}

func (m *Member) paced(r *snapshot.Reader) *pacedState {
	return &pacedState{Reader: r, clock: m.cfg.Clock, stop: m.stop, processors: runtime.GOMAXPROCS(0)}
}

// Read implements io.Reader.
func (s *pacedState) Read(p []byte) (int, error) {
	begin := s.clock.Now()
	n, err := s.Reader.Read(p)
	s.worked += s.clock.Now().Sub(begin)
	if s.bytes += n; s.bytes >= sendSlice {
		s.rest(sendRest(s.worked, s.processors))
		s.bytes, s.worked = 0, 0
	}
	return n, err
}

func (s *pacedState) rest(d time.Duration) {
	if d <= 0 { // many processors, or a clock that stands still
		return
	}
	timer := s.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
	case <-s.stop:
	}
}
