package embed

import (
	"context"
	"fmt"
	"net"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// localEndpoint stands for the member itself: nothing is looked up, and no network is used.
const localEndpoint = "http://this-member"

// Client returns a client of this member whose connections stay inside of the process. Requests that come before ReadyNotify
// wait. Like any other client it is nobody until it logs in, once authentication is enabled: see ClientConfig. The caller
// closes it, before the member or after.
func (e *Etcd) Client() (*clientv3.Client, error) { return e.Server.Client() }

// ClientConfig returns what Client makes its client of, to be changed (a user's name and password, a logger, an interceptor) and
// given to clientv3.New. Endpoints, TLS and the dialer must stay as they are.
func (e *Etcd) ClientConfig() clientv3.Config { return e.Server.clientConfig() }

// Client is Etcd.Client, for code that is given the Server alone.
func (s *Server) Client() (*clientv3.Client, error) {
	c, err := clientv3.New(s.clientConfig())
	if err != nil {
		return nil, fmt.Errorf("embed: make a client: %w", err)
	}
	return c, nil
}

func (s *Server) clientConfig() clientv3.Config {
	dial := func(ctx context.Context, _ string) (net.Conn, error) { return s.local.DialContext(ctx) }
	return clientv3.Config{
		Endpoints:   []string{localEndpoint},
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(dial)},
		Logger:      zap.NewNop(),
	}
}
