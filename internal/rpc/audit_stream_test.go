package rpc

import (
	"context"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// sudden is a stream whose messages are there at once.
type sudden struct {
	grpc.ServerStream
	ctx context.Context
}

func (s sudden) Context() context.Context { return s.ctx }

func (s sudden) RecvMsg(any) error { return nil }

// TestAStreamThatEndsAsItsFirstMessageComes: the handlers of watches and of keep-alives receive in a goroutine that they do not wait for when they
// return. It is for the race detector.
func TestAStreamThatEndsAsItsFirstMessageComes(t *testing.T) {
	t.Parallel()
	f := newAuditFile(t, true)
	const streams = 100
	var wg sync.WaitGroup
	for range streams {
		err := f.stream(sudden{ctx: t.Context()}, &grpc.StreamServerInfo{FullMethod: methodRange}, func(s grpc.ServerStream) error {
			wg.Go(func() {
				if err := s.RecvMsg(&etcdserverpb.AuthRoleRevokePermissionRequest{Role: "r", Key: []byte("k")}); err != nil {
					t.Error(err)
				}
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if lines := f.lines(); len(lines) != streams {
		t.Errorf("%d lines of %d streams", len(lines), streams)
	}
}
