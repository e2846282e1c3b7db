package main

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

const (
	frameConnections = 16
	frameClients     = 64 // requests under way on each connection
	framesMax        = 4096
)

// frameScenarios are puts and gets of prebuilt frames, which cost the client little, with the servers on cores of their own.
func frameScenarios() []Scenario {
	var all []Scenario
	for _, shape := range []Shape{one, oneTLS, three, threeTLS} {
		for _, s := range []Scenario{
			{Name: "put 256 B, prebuilt frames", run: framesRun(etcdserverpb.KV_Put_FullMethodName, 0, putMessage)},
			{Name: "get, prebuilt frames", run: framesRun(etcdserverpb.KV_Range_FullMethodName, valueBytes, getMessage)},
		} {
			s.Shape, s.Primary = shape.pinned(), Rate
			all = append(all, s)
		}
	}
	return all
}

func putMessage(key []byte, i int) proto.Message {
	return &etcdserverpb.PutRequest{Key: key, Value: value(i%valuesMax, valueBytes)}
}

func getMessage(key []byte, _ int) proto.Message { return &etcdserverpb.RangeRequest{Key: key} }

// framesRun sends a method's requests for keys spread over the loaded ones. An answer has the bytes of a header, and minimum more.
func framesRun(method string, minimum int, build func(key []byte, i int) proto.Message) func(ctx context.Context, r *rig) Turn {
	return func(ctx context.Context, r *rig) Turn {
		n := min(framesMax, r.keys)
		messages := make([]proto.Message, n)
		for i := range messages {
			messages[i] = build([]byte(loadKey(i*(r.keys/n))), i)
		}
		ready := map[string]*prepared{}
		var addresses []string
		for i := range r.members {
			address := r.members[(r.leader+i)%len(r.members)].client
			p, err := prepare(method, address, r.shape.TLS, minimum+messageHeaderBytes, messages)
			if err != nil {
				return failedTurn(fmt.Errorf("preparing requests: %w", err))
			}
			ready[address], addresses = p, append(addresses, address)
		}
		return r.measure(ctx, r.sizes.Settle, func() (tally, error) {
			return generate(ctx, load{addresses, r.tls(), ready, frameConnections, frameClients, 2 * r.sizes.Many, r.sizes.Most})
		})
	}
}
