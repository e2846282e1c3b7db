package member

import (
	"runtime"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/pacing"
	"github.com/ashlar-kv/ashlar/internal/snapshot"
)

const (
	// sendSlice is how many bytes of a state are read between two rests.
	sendSlice = snapshot.BlockBytes
	// sendShare is the part of all processors that reading a state takes: one in so many.
	sendShare = 32
	// sendRecordMax and sendByteMax bound a rest by what the slice costs the receiver, which puts each record in its place and writes
	// each byte twice or three times. So no state takes for ever: beside what reading and receiving take, they leave 40 MiB of small keys a
	// second, several times what a busy cluster adds to its log, and 300 MiB of large values.
	sendRecordMax = 2700 * time.Nanosecond
	sendByteMax   = 3 * time.Nanosecond
)

// slice is a part of a state, between two rests.
type slice struct {
	records, bytes int
	worked         time.Duration // how long reading it took
}

// rest is how long to rest after a slice, with so many processors: the slower the machine and the busier it is, the longer, and with
// many processors not at all.
func (s slice) rest(processors int) time.Duration {
	d := s.worked * time.Duration(max(sendShare-processors, 0)) / time.Duration(processors)
	return min(d, time.Duration(s.records)*sendRecordMax+time.Duration(s.bytes)*sendByteMax)
}

// pacedState is a state on its way to another member that leaves the processors to requests: while there are any it rests after each
// slice. The receiver, which works several times as much as the sender, has nothing to do meanwhile, so that this is its pace, too.
// What the receiver or the network take is not counted: while they are behind nobody else is disturbed here.
type pacedState struct {
	*snapshot.Reader
	clock clock.Clock
	stop  <-chan struct{} // closed when the member stops
	*pacing.Demand

	processors int
	slice      slice
	records    uint64 // up to the last rest
}

func (m *Member) paced(r *snapshot.Reader) *pacedState {
	return &pacedState{Reader: r, clock: m.cfg.Clock, stop: m.stop, Demand: m.demand(), processors: runtime.GOMAXPROCS(0)}
}

// Read implements io.Reader.
func (s *pacedState) Read(p []byte) (int, error) {
	begin := s.clock.Now()
	n, err := s.Reader.Read(p)
	end := s.clock.Now()
	s.slice.worked += end.Sub(begin)
	if s.slice.bytes += n; s.slice.bytes >= sendSlice {
		s.slice.records, s.records = int(s.Records()-s.records), s.Records()
		if s.Busy(end) {
			s.rest(s.slice.rest(s.processors))
		}
		s.slice = slice{}
	}
	return n, err
}

func (s *pacedState) rest(d time.Duration) { pacing.Rest(s.clock, s.stop, d) }
