package rpc

import (
	"bytes"
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/lockpb"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/watch"
)

// What a client of an election is told; the texts are etcd's.
var (
	errNoElected     = errors.New("election: no leader")
	errNotElected    = errors.New("election: not leader")
	errNoLeaderGiven = errors.New(`"leader" field must be provided`)
)

// Election is the service v3electionpb.Election.
type Election struct {
	lockpb.UnimplementedElectionServer
	line *line
}

// NewElection returns the service on a line.
func NewElection(l *Line) *Election { return &Election{line: &l.line} }

// Register adds the service to a server.
func (s *Election) Register(r grpc.ServiceRegistrar) { register(r, lockpb.Election_ServiceDesc, s) }

// Campaign implements lockpb.ElectionServer. It waits for as long as the client does.
func (s *Election) Campaign(ctx context.Context, r *lockpb.CampaignRequest) (*lockpb.CampaignResponse, error) {
	ctx, cancel := s.line.during(ctx)
	defer cancel()
	value := r.GetValue()
	if value == nil {
		value = []byte{}
	}
	p, h, err := s.line.enter(ctx, r.GetName(), value, r.GetLease())
	if err != nil {
		return nil, lineStatus(ctx, err)
	}
	return &lockpb.CampaignResponse{Header: h, Leader: &lockpb.LeaderKey{Name: p.name, Key: p.key, Rev: p.rev, Lease: p.lease}}, nil
}

// Proclaim implements lockpb.ElectionServer.
func (s *Election) Proclaim(ctx context.Context, r *lockpb.ProclaimRequest) (*lockpb.ProclaimResponse, error) {
	l := r.GetLeader()
	if l == nil {
		return nil, lineStatus(ctx, errNoLeaderGiven)
	}
	put := &etcdserverpb.PutRequest{Key: l.GetKey(), Value: r.GetValue(), Lease: l.GetLease()}
	ok, out, err := s.line.ifAt(ctx, l.GetKey(), l.GetRev(), &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestPut{RequestPut: put}})
	if err == nil && !ok {
		err = errNotElected
	}
	if err != nil {
		return nil, lineStatus(ctx, err)
	}
	return &lockpb.ProclaimResponse{Header: out.GetHeader()}, nil
}

// Resign implements lockpb.ElectionServer. To resign what one has lost is no error.
func (s *Election) Resign(ctx context.Context, r *lockpb.ResignRequest) (*lockpb.ResignResponse, error) {
	l := r.GetLeader()
	if l == nil {
		return nil, lineStatus(ctx, errNoLeaderGiven)
	}
	_, out, err := s.line.ifAt(ctx, l.GetKey(), l.GetRev(), deleteOp(l.GetKey()))
	if err != nil {
		return nil, lineStatus(ctx, err)
	}
	return &lockpb.ResignResponse{Header: out.GetHeader()}, nil
}

// Leader implements lockpb.ElectionServer.
func (s *Election) Leader(ctx context.Context, r *lockpb.LeaderRequest) (*lockpb.LeaderResponse, error) {
	out, err := s.leader(ctx, r.GetName(), 0)
	if err == nil && out.GetKv() == nil {
		err = errNoElected
	}
	if err != nil {
		return nil, lineStatus(ctx, err)
	}
	return out, nil
}

// leader reads who is the leader, at a revision or now; without one there is no Kv.
func (s *Election) leader(ctx context.Context, name []byte, rev int64) (*lockpb.LeaderResponse, error) {
	prefix, end := lineRange(name)
	out := new(etcdserverpb.RangeResponse)
	err := s.line.call(ctx, MethodRange, &etcdserverpb.RangeRequest{
		Key: prefix, RangeEnd: end, Limit: 1, Revision: rev, Serializable: rev != 0,
		SortTarget: etcdserverpb.RangeRequest_CREATE, SortOrder: etcdserverpb.RangeRequest_ASCEND,
	}, out, s.line.kv.Range)
	if err != nil {
		return nil, err
	}
	r := &lockpb.LeaderResponse{Header: out.GetHeader()}
	if len(out.GetKvs()) > 0 {
		r.Kv = out.GetKvs()[0]
	}
	return r, nil
}

// Observe implements lockpb.ElectionServer: each leader and each of its values comes, in order, unless so much was compacted
// that only the newest is known.
func (s *Election) Observe(r *lockpb.LeaderRequest, stream grpc.ServerStreamingServer[lockpb.LeaderResponse]) error {
	ctx, cancel := s.line.during(stream.Context())
	defer cancel()
	o := &observer{s: s, name: r.GetName(), send: stream.Send}
	for {
		if err := o.follow(ctx); err != nil {
			return lineStatus(ctx, err)
		}
	}
}

// observer tells one client about an election.
type observer struct {
	s    *Election
	name []byte
	send func(*lockpb.LeaderResponse) error

	key  []byte // of the leader, nil without one
	told int64  // the modification that was told last
}

// follow begins with the present and goes on until history that it needs is compacted; then it returns nil.
func (o *observer) follow(ctx context.Context) error {
	now, err := o.s.leader(ctx, o.name, 0)
	if err != nil {
		return err
	}
	if err := o.tell(now); err != nil {
		return err
	}
	prefix, end := lineRange(o.name)
	w := o.s.line.hub.NewStream()
	defer w.Close()
	w.Create(watch.Spec{Key: prefix, End: end, Start: now.GetHeader().GetRevision() + 1})
	for {
		m, err := w.Next(ctx)
		if err != nil {
			return err
		}
		if m.Canceled {
			return nil
		}
		for _, raw := range m.Events {
			var e etcdserverpb.WatchResponse
			if err := proto.Unmarshal(raw, &e); err != nil {
				return err
			}
			err := o.see(ctx, e.GetEvents()[0])
			if errors.Is(err, mvcc.ErrCompacted) {
				return nil
			}
			if err != nil {
				return err
			}
		}
	}
}

// see takes in one event.
func (o *observer) see(ctx context.Context, e *mvccpb.Event) error {
	kv := e.GetKv()
	isLeader := o.key != nil && bytes.Equal(kv.GetKey(), o.key)
	switch {
	case kv.GetModRevision() <= o.told:
		return nil // what was told is of the end of that revision
	case isLeader && e.GetType() == mvccpb.Event_PUT:
		h := o.s.line.leases.header(kv.GetModRevision())
		return o.tell(&lockpb.LeaderResponse{Header: h, Kv: kv})
	case isLeader || o.key == nil:
		next, err := o.s.leader(ctx, o.name, kv.GetModRevision())
		if err != nil {
			return err
		}
		next.Header = o.s.line.leases.header(kv.GetModRevision())
		return o.tell(next)
	default:
		return nil
	}
}

// tell tells of a leader, unless that was done.
func (o *observer) tell(r *lockpb.LeaderResponse) error {
	known := bytes.Equal(o.key, r.GetKv().GetKey()) && r.GetKv().GetModRevision() <= o.told
	o.key, o.told = r.GetKv().GetKey(), max(o.told, r.GetHeader().GetRevision())
	if r.GetKv() == nil || known {
		return nil
	}
	return o.send(r)
}
