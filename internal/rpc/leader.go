package rpc

import (
	"context"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// leaderless ends the streams of clients that demand a leader once there has been none for a while. One goroutine looks
// after all of them; it lives while there are any.
type leaderless struct {
	hasLeader func() bool
	changed   func() <-chan struct{}
	patience  time.Duration
	clock     clock.Clock

	mu      sync.Mutex
	streams map[*demand]struct{}
	idle    chan struct{} // closed when the last stream is gone; nil without the goroutine
}

// demand is a stream of a client that demands a leader.
type demand struct {
	grpc.ServerStream
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// Context implements grpc.ServerStream. Its cause is ErrGRPCNoLeader once the leader is lost.
func (d *demand) Context() context.Context { return d.ctx }

// run runs the handler of a stream and tells the client when it ended for want of a leader.
func (l *leaderless) run(srv any, s grpc.ServerStream, handler grpc.StreamHandler) error {
	d := &demand{ServerStream: s}
	d.ctx, d.cancel = context.WithCancelCause(s.Context())
	defer d.cancel(nil)
	l.add(d)
	defer l.remove(d)
	err := handler(srv, d)
	if err != nil && context.Cause(d.ctx) == rpctypes.ErrGRPCNoLeader {
		return rpctypes.ErrGRPCNoLeader
	}
	return err
}

func (l *leaderless) add(d *demand) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.streams == nil {
		l.streams = make(map[*demand]struct{})
	}
	l.streams[d] = struct{}{}
	if l.idle == nil {
		l.idle = make(chan struct{})
		go l.watch(l.idle)
	}
}

func (l *leaderless) remove(d *demand) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.streams, d)
	if len(l.streams) == 0 && l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}

// watch waits for the leader to be lost until idle is closed.
func (l *leaderless) watch(idle <-chan struct{}) {
	for {
		changed := l.changed()
		if l.hasLeader() {
			select {
			case <-changed:
			case <-idle:
				return
			}
			continue
		}
		timer := l.clock.NewTimer(l.patience)
		select {
		case <-timer.C():
			l.end()
			select {
			case <-changed:
			case <-idle:
				return
			}
		case <-changed:
			timer.Stop()
		case <-idle:
			timer.Stop()
			return
		}
	}
}

// end ends all streams there are.
func (l *leaderless) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for d := range l.streams {
		d.cancel(rpctypes.ErrGRPCNoLeader)
	}
}
