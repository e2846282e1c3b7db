package member

import (
	"sync/atomic"
	"time"
)

// idSource makes request ids that are unique over members and restarts: 16 bits of
// the member, 40 bits of the start's time in milliseconds, and a counter below
// that overflows into them.
type idSource struct{ last atomic.Uint64 }

func (s *idSource) init(member uint64, now time.Time) {
	const timeBits, counterBits = 40, 8
	ms := uint64(now.UnixMilli()) & (1<<timeBits - 1)
	s.last.Store(member<<(timeBits+counterBits) | ms<<counterBits)
}

func (s *idSource) next() uint64 { return s.last.Add(1) }
