package rpc

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/watch"
)

// DefaultProgressInterval is the time between progress messages when none is given.
const DefaultProgressInterval = 10 * time.Minute

// progressIntervalMin is the shortest interval, as in etcd.
const progressIntervalMin = 100 * time.Millisecond

// progressJitter is the part of the interval that is added at random, so that the streams of a client that opened many at
// once do not all speak at once.
const progressJitter = 10

// WatchMember is what the Watch service needs of a member.
type WatchMember interface {
	// Hub returns the hub that tells what changes.
	Hub() *watch.Hub
	// Header is as in KVMember.
	Header() (clusterID, memberID, term uint64)
}

// WatchOptions are the settings of the Watch service.
type WatchOptions struct {
	// ProgressInterval is the time between the progress messages of an idle watcher that asked for them
	// (DefaultProgressInterval, and no less than 100 ms); up to a tenth more is added.
	ProgressInterval time.Duration
	// Clock tells when it has passed. Required.
	Clock clock.Clock
	// Measures count what is written; nil is for nobody.
	Measures *Measures
	// Authorize says whether the client of ctx may read what a watcher asks for; key and end are as in watch.Spec.
	// Nil allows everyone everything. It is called from many goroutines.
	Authorize func(ctx context.Context, key, end []byte) error
}

// Watch is the service etcdserverpb.Watch. A stream of a client is a watch.Stream with two goroutines: one turns requests
// into calls, the other writes what Next gives. gRPC takes a message once the client has room for the one before, so a
// client that does not read stops its own goroutine and nobody else's; what waits for it is bounded by the hub.
type Watch struct {
	member WatchMember
	o      WatchOptions
	pace   *pace
	reads  *pace

	mu      sync.Mutex
	streams map[*watching]context.CancelCauseFunc
	stopped bool
}

// NewWatch returns the service on a member.
func NewWatch(m WatchMember, o WatchOptions) *Watch {
	if o.ProgressInterval <= 0 {
		o.ProgressInterval = DefaultProgressInterval
	}
	o.ProgressInterval = max(o.ProgressInterval, progressIntervalMin)
	if o.Measures == nil {
		o.Measures = NewMeasures(false)
	}
	return &Watch{member: m, o: o, pace: newPace(o.Clock), reads: newReadPace(o.Clock), streams: make(map[*watching]context.CancelCauseFunc)}
}

// Register adds the service to a server that NewServer has made; another one lacks the codec.
func (s *Watch) Register(r grpc.ServiceRegistrar) { r.RegisterService(&watchDesc, s) }

// Stop ends all streams, and new ones at once, with the error that lets clients go on at another member. A graceful stop of
// the server needs it: watches do not end by themselves.
func (s *Watch) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	for _, cancel := range s.streams {
		cancel(rpctypes.ErrGRPCStopped)
	}
}

// enter adds a stream to those that Stop ends.
func (s *Watch) enter(w *watching, cancel context.CancelCauseFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		cancel(rpctypes.ErrGRPCStopped)
	}
	s.streams[w] = cancel
}

func (s *Watch) leave(w *watching) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, w)
}

// watchService is what watchDesc demands of what is registered.
type watchService interface{ isWatch() }

func (s *Watch) isWatch() {}

// watchDesc is etcd's description of the service, with a handler that writes encoded messages.
var watchDesc = grpc.ServiceDesc{
	ServiceName: etcdserverpb.Watch_ServiceDesc.ServiceName,
	HandlerType: (*watchService)(nil),
	Streams: []grpc.StreamDesc{{
		StreamName:    etcdserverpb.Watch_ServiceDesc.Streams[0].StreamName,
		ServerStreams: true,
		ClientStreams: true,
		Handler: func(srv any, stream grpc.ServerStream) error {
			return toStatus(srv.(*Watch).serve(stream))
		},
	}},
	Metadata: etcdserverpb.Watch_ServiceDesc.Metadata,
}

// unansweredMax is how many create requests of a stream may wait for their answers to be written. Above it, no more of the
// client's requests are read.
const unansweredMax = 4096

// watching is one stream of a client.
type watching struct {
	service    *Watch
	stream     grpc.ServerStream
	events     *watch.Stream
	progress   progress
	unanswered chan struct{} // holds a token for each create request whose answer is not written
}

// serve answers a stream until the client is gone, a request cannot be read, or the member stops. That the client closes
// its sending side does not end it.
func (s *Watch) serve(stream grpc.ServerStream) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	w := &watching{service: s, stream: stream, events: s.member.Hub().NewStream(), unanswered: make(chan struct{}, unansweredMax)}
	w.events.Rest(s.reads.rest)
	defer w.events.Close()
	defer w.progress.stop()
	s.enter(w, cancel)
	defer s.leave(w)
	go func() {
		// It ends at the latest when this function has returned: then gRPC ends the stream.
		if err := w.receive(ctx); err != nil {
			cancel(err)
		}
	}()
	return w.send(ctx)
}

// receive takes the client's requests until there are no more.
func (w *watching) receive(ctx context.Context) error {
	var req etcdserverpb.WatchRequest
	for {
		if err := w.stream.RecvMsg(&req); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if ctx.Err() != nil {
			return nil // it has an end already
		}
		w.handle(ctx, &req)
	}
}

// handle turns a request into a call. One that asks for nothing is left alone, as in etcd.
func (w *watching) handle(ctx context.Context, req *etcdserverpb.WatchRequest) {
	switch r := req.GetRequestUnion().(type) {
	case *etcdserverpb.WatchRequest_CreateRequest:
		if r.CreateRequest != nil {
			w.create(ctx, r.CreateRequest)
		}
	case *etcdserverpb.WatchRequest_CancelRequest:
		if r.CancelRequest != nil {
			w.events.Cancel(r.CancelRequest.GetWatchId())
		}
	case *etcdserverpb.WatchRequest_ProgressRequest:
		if r.ProgressRequest != nil {
			w.events.RequestProgress()
		}
	}
}

func (w *watching) create(ctx context.Context, r *etcdserverpb.WatchCreateRequest) {
	select {
	case w.unanswered <- struct{}{}:
	case <-ctx.Done():
		return
	}
	spec := watchSpec(r)
	if authorize := w.service.o.Authorize; authorize != nil {
		if err := authorize(ctx, spec.Key, spec.End); err != nil {
			w.events.Refuse(refusal(err))
			return
		}
	}
	if spec.ProgressNotify {
		w.progress.start(w.service.o, w.events.NotifyProgress)
	}
	w.events.Create(spec)
}

// watchSpec translates a request: no key means the key of one byte 00, and filters that nobody knows are none.
func watchSpec(r *etcdserverpb.WatchCreateRequest) watch.Spec {
	spec := watch.Spec{
		ID: r.GetWatchId(), Key: r.GetKey(), End: r.GetRangeEnd(), Start: r.GetStartRevision(),
		PrevKV: r.GetPrevKv(), ProgressNotify: r.GetProgressNotify(), Fragment: r.GetFragment(),
	}
	if len(spec.Key) == 0 {
		spec.Key = []byte{0}
	}
	for _, f := range r.GetFilters() {
		switch f {
		case etcdserverpb.WatchCreateRequest_NOPUT:
			spec.NoPut = true
		case etcdserverpb.WatchCreateRequest_NODELETE:
			spec.NoDelete = true
		}
	}
	return spec
}

// refusal is the reason a client is told: the text of a status, and of an error without one etcd's for a denied
// permission.
func refusal(err error) string {
	s := toStatus(err)
	if status.Code(s) == codes.Unknown {
		s = rpctypes.ErrGRPCPermissionDenied
	}
	return s.Error()
}

// send writes messages until the stream ends, and returns why.
func (w *watching) send(ctx context.Context) error {
	var r round
	var encoder watchEncoder
	written := watchTally{measures: w.service.o.Measures}
	defer written.tell()
	for {
		m, err := w.events.Ready(ctx)
		if m == nil && err == nil {
			written.rest()
			m, err = w.events.Next(ctx)
		}
		if err != nil {
			return w.reason(ctx, err)
		}
		written.start(m)
		cluster, member, term := w.service.member.Header()
		response, err := encoder.encode(header{cluster, member, m.Revision, term}, m)
		if err != nil {
			return err
		}
		length := response.Length()
		if err := w.stream.SendMsg(response); err != nil {
			return w.reason(ctx, err)
		}
		written.wrote(m, length)
		if m.Created {
			<-w.unanswered
		}
		if r.ends(m) {
			written.rest()
			r.pause(ctx, w.service.pace)
		}
	}
}

// reason is what the client is told when its stream ends with err.
func (w *watching) reason(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case cause == nil && errors.Is(err, watch.ErrClosed):
		return rpctypes.ErrGRPCStopped // the member ends
	case cause == nil:
		return err
	case errors.Is(cause, context.Canceled):
		return rpctypes.ErrGRPCWatchCanceled
	default:
		return cause
	}
}

// progress calls a function at intervals, from the first start until stop.
type progress struct {
	mu    sync.Mutex
	timer clock.Timer
	ended bool
}

// start begins the intervals unless that is done.
func (p *progress) start(o WatchOptions, notify func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil || p.ended {
		return
	}
	interval := o.ProgressInterval + rand.N(o.ProgressInterval/progressJitter+1)
	p.timer = o.Clock.AfterFunc(interval, func() {
		notify()
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.ended {
			p.timer.Reset(interval)
		}
	})
}

func (p *progress) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.timer != nil {
		p.timer.Stop()
	}
}
