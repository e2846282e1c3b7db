package h2

import (
	"context"
	"time"
)

// BoundWaits bounds how long a send of the call that ctx belongs to may wait for a client that takes nothing at all of what is queued; without it, for as
// long as the client likes. After that the stream is reset with ENHANCE_YOUR_CALM, which a gRPC client is told as ResourceExhausted, and
// the send fails. It is for handlers that hold on to something while they send, who call it before they do; elsewhere than in this transport it does nothing.
func BoundWaits(ctx context.Context, most time.Duration) {
	if s, ok := ctx.Value(ownKey{}).(*stream); ok {
		s.patience = most
	}
}

// awaitQuota waits until something of the queue was sent, or the stream ends. It may return before. REQUIRES: c.mu is held, which is released
// meanwhile.
func (s *stream) awaitQuota() {
	c, quota := s.c, s.quota
	c.kick()
	c.mu.Unlock()
	if s.patience == 0 {
		<-s.mayQueue
		c.mu.Lock()
		return
	}
	t := time.NewTimer(s.patience)
	defer t.Stop()
	select {
	case <-s.mayQueue:
		c.mu.Lock()
	case <-t.C:
		c.mu.Lock()
		if !s.gone && !s.over && s.quota <= 0 && s.quota == quota {
			s.cut = true
			c.reset(s, codeCalm)
		}
	}
}
