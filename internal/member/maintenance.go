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
	hashing hashing

	mu     sync.Mutex
	ended  bool        // Stop has begun: nothing is started any more
	defrag *defragment // under way, nil when none is
	sent   map[*Export]struct{}
	kept   *keptExport // nil when none is

	work sync.WaitGroup
	ctx  context.Context // ends when the member stops
	end  context.CancelFunc
}

func (x *maintenance) init(m *Member) {
	x.m, x.exports, x.sent = m, make(chan struct{}, exportsMax), make(map[*Export]struct{})
	x.hashing.init()
	x.ctx, x.end = context.WithCancel(context.Background())
}

// begin enters a piece of work that Stop waits for, which end ends; it returns ErrStopped when it is too late. The context
// ends with ctx and when the member stops.
func (x *maintenance) begin(ctx context.Context) (_ context.Context, end func(), err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ended {
		return nil, nil, ErrStopped
	}
	x.work.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	unhook := context.AfterFunc(x.ctx, cancel)
	return ctx, func() {
		unhook()
		cancel()
		x.work.Done()
	}, nil
}

// close ends what is under way and waits for it.
func (x *maintenance) close() {
	x.mu.Lock()
	x.ended = true
	_ = x.forgetKeptLocked() // it was only read
	x.mu.Unlock()
	x.end()
	x.work.Wait()
}
