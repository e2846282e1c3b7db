package rpc

import (
	"context"
	"log/slog"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/lockpb"
	"github.com/ashlar-kv/ashlar/internal/measure"
)

// guard stands before every request: at a learner it lets few pass, it turns away clients that demand a leader while there is none, ends their streams
// when it is lost, holds requests to the gate's rule of their method, logs slow requests, and writes
// all of them down for the audit log.
type guard struct {
	measures  *Measures
	hasLeader func() bool
	slow      time.Duration
	trace     func(context.Context, *measure.Phases) // nil for nobody
	log       *slog.Logger
	lost      *leaderless // nil when no stream is ended for want of a leader
	gate      *Gate
	audit     *Auditing    // nil when nothing is written down
	learner   func() bool  // nil for never
	trusted   func() error // nil for always
}

// Methods that a learner serves: it may be far behind, and nobody counts on it.
const (
	methodRange    = "/etcdserverpb.KV/Range"
	methodStatus   = "/etcdserverpb.Maintenance/Status"
	methodSnapshot = "/etcdserverpb.Maintenance/Snapshot"
)

// admit returns errUntrusted while this member's state is wrong, and ErrGRPCNotSupportedForLearner when this member is a learner and the request is not one that it serves: its
// status and, as they promise nothing, serializable reads.
func (g *guard) admit(req any, method string) error {
	if err := g.distrust(method); err != nil {
		return err
	}
	if g.learner == nil || !g.learner() || method == methodStatus || method == methodSnapshot {
		return nil
	}
	if r, ok := req.(*Request); ok && method == methodRange {
		var m etcdserverpb.RangeRequest
		if err := proto.Unmarshal(r.Raw(), &m); err == nil && m.GetSerializable() {
			return nil
		}
	}
	return rpctypes.ErrGRPCNotSupportedForLearner
}

// check returns ErrGRPCNoLeader when the client demands a leader and none is known.
func (g *guard) check(ctx context.Context) error {
	if !g.hasLeader() && demandsLeader(ctx) {
		return rpctypes.ErrGRPCNoLeader
	}
	return nil
}

func demandsLeader(ctx context.Context) bool {
	v := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataRequireLeaderKey)
	return len(v) > 0 && v[0] == rpctypes.MetadataHasLeader
}

func (g *guard) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	c, begin := g.measures.begin(ctx, info.FullMethod, "unary")
	c.Received.Inc()
	resp, err := g.answer(ctx, req, info, handler)
	c.Sent.Inc()
	c.ended(err, begin)
	return resp, err
}

func (g *guard) answer(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if g.audit == nil {
		return g.serve(ctx, req, info, handler)
	}
	return g.audit.unary(ctx, req, info, func(ctx context.Context, req any) (any, error) {
		return g.serve(ctx, req, info, handler)
	})
}

// serve is serveTimed, timed where somebody wants to know.
func (g *guard) serve(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	slow := g.slow > 0 && !waitingMethods[info.FullMethod]
	if !slow && g.trace == nil {
		return g.serveTimed(ctx, req, info, handler)
	}
	start := time.Now()
	var phases *measure.Phases
	if r, ok := req.(*Request); ok && !r.began.IsZero() {
		phases = measure.StartPhases(r.began, measure.Receiving)
		phases.At(measure.Checking, start)
	} else {
		phases = measure.StartPhases(start, measure.Checking)
	}
	ctx = phases.With(ctx)
	resp, err := g.serveTimed(ctx, req, info, handler)
	end := time.Now()
	phases.At(measure.Answering, end)
	if took := end.Sub(start); slow && took > g.slow {
		g.tell(ctx, info.FullMethod, took, req, resp, err)
	}
	if g.trace != nil {
		g.trace(ctx, phases)
	}
	return resp, err
}

func (g *guard) serveTimed(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := g.admit(req, info.FullMethod); err != nil {
		return nil, err
	}
	if err := g.check(ctx); err != nil {
		return nil, err
	}
	ctx, err := g.gate.enter(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return g.handle(ctx, info.FullMethod, req, handler)
}

// waitingMethods are those whose requests take as long as they have to wait for others.
var waitingMethods = map[string]bool{lockpb.Lock_Lock_FullMethodName: true, lockpb.Election_Campaign_FullMethodName: true}

// tell logs a slow request, who asked for it and where its time went: never its keys or values.
func (g *guard) tell(ctx context.Context, method string, took time.Duration, req, resp any, err error) {
	attrs := []slog.Attr{slog.String("method", method), slog.Duration("took", took), slog.Duration("expected", g.slow)}
	if p, ok := peer.FromContext(ctx); ok {
		if p.Addr.Network() != localNetwork {
			attrs = append(attrs, slog.String("client", p.Addr.String()))
		} else if from := forwardedFor(ctx); from != "" {
			attrs = append(attrs, slog.String("client", from), slog.String("via", "gateway"))
		}
	}
	if r, ok := req.(*Request); ok {
		attrs = append(attrs, slog.Int("request_bytes", len(r.Raw())))
	}
	if r, ok := resp.(*Response); ok && r != nil {
		attrs = append(attrs, slog.Int("response_bytes", r.Len()))
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	var phases []any
	measure.PhasesOf(ctx).Each(func(name string, _ time.Time, took time.Duration) {
		phases = append(phases, slog.Duration(name, took))
	})
	attrs = append(attrs, slog.Group("phases", phases...))
	g.log.LogAttrs(ctx, slog.LevelWarn, "slow request", attrs...)
}

func (g *guard) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	c, begin := g.measures.begin(s.Context(), info.FullMethod, "stream")
	err := g.answerStream(srv, counted{s, c}, info, handler)
	c.ended(err, begin)
	return err
}

func (g *guard) answerStream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if g.audit == nil {
		return g.serveStream(srv, s, info, handler)
	}
	return g.audit.stream(s, info, func(s grpc.ServerStream) error { return g.serveStream(srv, s, info, handler) })
}

func (g *guard) serveStream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if err := g.admit(nil, info.FullMethod); err != nil {
		return err
	}
	if g.trusted != nil {
		s = doubted{s, g, info.FullMethod}
	}
	if err := g.check(s.Context()); err != nil {
		return err
	}
	ctx, err := g.gate.enter(s.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	if ctx != s.Context() {
		s = entered{s, ctx}
	}
	if g.lost != nil && demandsLeader(s.Context()) {
		return g.lost.run(srv, s, handler)
	}
	return handler(srv, s)
}
