package proxy

import (
	"context"
	"errors"
	"io"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/ashlar-kv/ashlar/internal/lockpb"
)

// handler serves a method that the proxy has a part in.
type handler func(stream grpc.ServerStream) error

// handlers are those methods; all others are passed on as they are.
type handlers map[string]handler

// unary makes a handler of a method with one request and one answer.
func unary[Q, R any](do func(ctx context.Context, q *Q) (*R, error)) handler {
	return func(stream grpc.ServerStream) error {
		q := new(Q)
		if err := stream.RecvMsg(q); err != nil {
			return err
		}
		r, err := do(stream.Context(), q)
		if err != nil {
			return err
		}
		return stream.SendMsg(r)
	}
}

// translated makes a handler of a method that goes upstream with its request and its answer changed.
func translated[Q, R any](up grpc.ClientConnInterface, method string, there func(*Q), back func(*R)) handler {
	return unary(func(ctx context.Context, q *Q) (*R, error) {
		there(q)
		r := new(R)
		if err := up.Invoke(passed(ctx), method, q, r); err != nil {
			return nil, err
		}
		back(r)
		return r, nil
	})
}

// streamed makes a handler of a method with one request and many answers, which are changed.
func streamed[Q, R any](up grpc.ClientConnInterface, method string, there func(*Q), back func(*R)) handler {
	return func(client grpc.ServerStream) error {
		q := new(Q)
		if err := client.RecvMsg(q); err != nil {
			return err
		}
		there(q)
		ctx, cancel := context.WithCancel(passed(client.Context()))
		defer cancel()
		stream, err := up.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
		if err != nil {
			return err
		}
		if err := errors.Join(stream.SendMsg(q), stream.CloseSend()); err != nil {
			return err
		}
		for {
			r := new(R)
			if err := stream.RecvMsg(r); err != nil {
				return ended(err)
			}
			back(r)
			if err := client.SendMsg(r); err != nil {
				return err
			}
		}
	}
}

// ended is the outcome of a stream whose upstream ended with err.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// namespaced are the methods that name keys, besides those of KV and Watch. There are none without a namespace.
func namespaced(up grpc.ClientConnInterface, n namespace) handlers {
	if n == "" {
		return nil
	}
	return handlers{
		etcdserverpb.Lease_LeaseTimeToLive_FullMethodName: translated(up, etcdserverpb.Lease_LeaseTimeToLive_FullMethodName,
			func(*etcdserverpb.LeaseTimeToLiveRequest) {}, n.leased),
		lockpb.Lock_Lock_FullMethodName: translated(up, lockpb.Lock_Lock_FullMethodName,
			func(q *lockpb.LockRequest) { q.Name = n.name(q.Name) },
			func(r *lockpb.LockResponse) { r.Key = r.Key[min(len(n), len(r.Key)):] }),
		lockpb.Lock_Unlock_FullMethodName: translated(up, lockpb.Lock_Unlock_FullMethodName,
			func(q *lockpb.UnlockRequest) { q.Key = n.key(q.Key) }, func(*lockpb.UnlockResponse) {}),
		lockpb.Election_Campaign_FullMethodName: translated(up, lockpb.Election_Campaign_FullMethodName,
			func(q *lockpb.CampaignRequest) { q.Name = n.name(q.Name) }, func(r *lockpb.CampaignResponse) { n.won(r.Leader) }),
		lockpb.Election_Proclaim_FullMethodName: translated(up, lockpb.Election_Proclaim_FullMethodName,
			func(q *lockpb.ProclaimRequest) { n.leader(q.Leader) }, func(*lockpb.ProclaimResponse) {}),
		lockpb.Election_Resign_FullMethodName: translated(up, lockpb.Election_Resign_FullMethodName,
			func(q *lockpb.ResignRequest) { n.leader(q.Leader) }, func(*lockpb.ResignResponse) {}),
		lockpb.Election_Leader_FullMethodName: translated(up, lockpb.Election_Leader_FullMethodName,
			func(q *lockpb.LeaderRequest) { q.Name = n.name(q.Name) }, func(r *lockpb.LeaderResponse) { n.strip(r.Kv) }),
		lockpb.Election_Observe_FullMethodName: streamed(up, lockpb.Election_Observe_FullMethodName,
			func(q *lockpb.LeaderRequest) { q.Name = n.name(q.Name) }, func(r *lockpb.LeaderResponse) { n.strip(r.Kv) }),
	}
}
