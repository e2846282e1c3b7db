package rpc

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// TestAClientThatReadsNothingCostsOnlyItself has a client ask for more than the budget and read none of it: the next
// client's large range waits, the first one's connection is told to be closed, and then the second has its answer.
func TestAClientThatReadsNothingCostsOnlyItself(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	for i := range 12 {
		put(t, s, fmt.Sprintf("big/%02d", i), string(bytes.Repeat([]byte("x"), 512<<10)))
	}
	manual := clock.NewManual(time.Unix(0, 0))
	conns := NewConns()
	kv := NewKV(s, KVOptions{ResponseBudget: 2 << 20, Conns: conns})
	kv.budget.clock = manual
	address := serveKV(t, kv, conns)
	connect := func() *grpc.ClientConn {
		c, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	all := &etcdserverpb.RangeRequest{Key: []byte("big/"), RangeEnd: []byte("big0")}

	slow := connect()
	stream, err := slow.NewStream(context.Background(), &grpc.StreamDesc{ServerStreams: true}, "/etcdserverpb.KV/Range")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.SendMsg(all); err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil { // comes once the answer is handed on
		t.Fatal(err)
	}

	answered := make(chan error, 1)
	go func() {
		var out etcdserverpb.RangeResponse
		answered <- connect().Invoke(context.Background(), "/etcdserverpb.KV/Range", all, &out)
	}()
	manual.WaitPending(1) // it waits
	manual.Advance(stallAfter)
	if err := <-answered; err != nil {
		t.Fatalf("once the slow client was cut off: %v", err)
	}
	if err := stream.RecvMsg(&etcdserverpb.RangeResponse{}); err == nil {
		t.Error("the slow client got all of its answer")
	}
}

// serveKV serves kv over connections of its own until the test ends, and returns the address.
func serveKV(t *testing.T, kv *KV, conns *Conns) string {
	t.Helper()
	srv := NewServer(Options{MaxRequestBytes: soloMax, HasLeader: func() bool { return true }, Logger: discard()})
	kv.Register(srv)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(conns.Listen(lis)) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return lis.Addr().String()
}
