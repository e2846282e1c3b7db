package h2_test

import (
	"google.golang.org/grpc"

	"github.com/ashlar-kv/ashlar/internal/h2"
)

// workers is how many goroutines the servers of tests keep.
const workers = 64

// ours is the server of this package.
func ours(o options) server {
	return h2.NewServer(h2.Options{
		Codec: plain{}, Unary: o.unaryInterceptor, Stream: o.streamInterceptor, Credentials: o.creds, MaxRecvBytes: o.maxRecv,
		MaxConcurrentStreams: o.maxStreams, KeepaliveMinTime: o.minPing, KeepaliveInterval: o.pingEvery, KeepaliveTimeout: o.pingPatience,
		Workers: workers,
	})
}

var _ grpc.ServiceRegistrar = (*h2.Server)(nil)
