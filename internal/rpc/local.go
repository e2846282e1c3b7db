package rpc

import (
	"context"
	"fmt"
	"math"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

// localBuffer is what a connection inside the process holds on the way, each way.
const localBuffer = 1 << 20

// localNetwork is the network of clients of Local.
const localNetwork = "bufconn"

// Local returns a listener for a server and a client of it in the same process, which connects when it is first used and again
// when the connection was lost. It has no TLS, and names no user. The caller closes both.
func Local() (net.Listener, *grpc.ClientConn, error) {
	l := bufconn.Listen(localBuffer)
	conn, err := grpc.NewClient("passthrough:///local",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)))
	if err != nil {
		_ = l.Close()
		return nil, nil, fmt.Errorf("make a connection inside the process: %w", err)
	}
	return l, conn, nil
}
