package member

import (
	"context"
	"sync"
)

// maintenance holds what the requests of the Maintenance service share. Work that outlives its request runs in
// goroutines that Stop waits for.
type maintenance struct {
	m       *Member
	exports chan struct{} // one element for each database file that is being made or sent

	mu     sync.Mutex
	ended  bool        // Stop has begun: nothing is started any more
	defrag *defragment // under way, nil when none is

	work sync.WaitGroup
	ctx  context.Context // ends when the member stops
	end  context.CancelFunc
}

func (x *maintenance) init(m *Member) {
	x.m, x.exports = m, make(chan struct{}, exportsMax)
	x.ctx, x.end = context.WithCancel(context.Background())
}

// close ends what is under way and waits for it.
func (x *maintenance) close() {
	x.mu.Lock()
	x.ended = true
	x.mu.Unlock()
	x.end()
	x.work.Wait()
}
