package rpc

import (
	"sync"
	"time"
)

// stridesFor is for how long what pages give out is counted together.
const stridesFor = time.Second

// strides counts what ranges of moderate size give out. Where it is as much within stridesFor as makes one range large, they walk as far as that one
// does, and what they read is as much more than the block cache usually holds.
type strides struct {
	mu    sync.Mutex
	since time.Time
	bytes int
}

// far takes in a range that gave out so many bytes, and tells whether far bytes have come together. Then it begins anew.
func (s *strides) far(bytes, far int, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.since) >= stridesFor {
		s.since, s.bytes = now, 0
	}
	if s.bytes += bytes; s.bytes < far {
		return false
	}
	s.since, s.bytes = now, 0
	return true
}
