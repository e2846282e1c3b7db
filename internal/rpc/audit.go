package rpc

import (
	"context"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/ashlar-kv/ashlar/internal/audit"
	"github.com/ashlar-kv/ashlar/internal/clock"
)

// Auditing says what a server writes down of its requests.
type Auditing struct {
	// Log takes the lines. Required.
	Log *audit.Log
	// Reads writes down what changes nothing, too. Logins, snapshots and reads that are refused or fail are written down in
	// any case.
	Reads bool
	// Clock tells when requests come. Required.
	Clock clock.Clock
}

// audited is one request on its way to the audit log. A nil one is not written down.
type audited struct {
	to     *Auditing
	record audit.Record // what is known when it comes

	mu    sync.Mutex // guards what follows: a stream asks for several things at a time
	user  string
	lease int64
}

type auditKey struct{}

// auditOf returns the line of the request of ctx, nil when there is to be none.
func auditOf(ctx context.Context) *audited {
	a, _ := ctx.Value(auditKey{}).(*audited)
	return a
}

// begin notes a request that has come, and returns the context that it goes on with.
func (t *Auditing) begin(ctx context.Context, method string) (context.Context, *audited) {
	a := &audited{to: t, record: audit.Record{Began: t.Clock.Now(), Method: method}}
	if p, ok := peer.FromContext(ctx); ok {
		a.record.From, a.record.Certificate = p.Addr.String(), certificateName(p)
		if p.Addr.Network() == localNetwork {
			a.record.From, a.record.Via = forwardedFor(ctx), "gateway"
		}
	}
	return context.WithValue(ctx, auditKey{}, a), a
}

// forwardedFor returns whom the gateway asks for: it adds its client's address behind what that client says.
func forwardedFor(ctx context.Context) string {
	v := metadata.ValueFromIncomingContext(ctx, "x-forwarded-for")
	if len(v) == 0 {
		return ""
	}
	last := v[len(v)-1]
	return strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])
}

// is notes who asks.
func (a *audited) is(user string) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.user = user
}

// about notes which lease of a stream an error is about.
func (a *audited) about(lease int64) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lease = lease
}

// watched writes down that a range is watched on the stream of the request, or that it may not be.
func (a *audited) watched(key, end []byte, err error) {
	if a == nil {
		return
	}
	r := a.record
	r.Began = a.to.Clock.Now()
	r.Touches = []audit.Touch{{Op: "watch", Key: key, End: end}}
	a.write(&r, true, err)
}

// end writes down how a request ended.
func (a *audited) end(r *audit.Record, read bool, err error) {
	r.Took = a.to.Clock.Now().Sub(r.Began)
	a.write(r, read, err)
}

func (a *audited) write(r *audit.Record, read bool, err error) {
	code := status.Code(err)
	if read && !a.to.Reads && (code == codes.OK || code == codes.Canceled) {
		return
	}
	a.mu.Lock()
	r.User = a.user
	if a.lease != 0 {
		r.Lease = a.lease
	}
	a.mu.Unlock()
	r.Code = code.String()
	a.to.Log.Add(r)
}

// unary serves a request and writes it down.
func (t *Auditing) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, serve grpc.UnaryHandler) (any, error) {
	ctx, a := t.begin(ctx, info.FullMethod)
	resp, err := serve(ctx, req)
	r := a.record
	read := describe(&r, req)
	a.end(&r, read, err)
	return resp, err
}

// stream serves a stream and writes it down when it has ended, with what its first message asked for.
func (t *Auditing) stream(s grpc.ServerStream, info *grpc.StreamServerInfo, serve func(grpc.ServerStream) error) error {
	ctx, a := t.begin(s.Context(), info.FullMethod)
	st := &auditedStream{ServerStream: s, ctx: ctx, record: a.record}
	err := serve(st)
	r, read := st.asked()
	a.end(&r, read, err)
	return err
}

// auditedStream notes what its first message asks for.
type auditedStream struct {
	grpc.ServerStream
	ctx context.Context

	mu     sync.Mutex // guards what follows: handlers return while a goroutine of theirs still receives
	seen   bool
	read   bool
	record audit.Record
}

// asked returns what is known of the first message.
func (s *auditedStream) asked() (r audit.Record, read bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = true // what comes now is too late
	return s.record, s.read
}

// Context implements grpc.ServerStream.
func (s *auditedStream) Context() context.Context { return s.ctx }

// RecvMsg implements grpc.ServerStream.
func (s *auditedStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && !s.seen {
		s.seen, s.read = true, describe(&s.record, m)
		for i := range s.record.Touches { // the message's memory is used again
			t := &s.record.Touches[i]
			t.Key, t.End = append([]byte(nil), t.Key...), append([]byte(nil), t.End...)
		}
	}
	return err
}
