package server

import (
	"context"
	"errors"
	"net"
	"net/http"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/member"
	"github.com/ashlar-kv/ashlar/internal/rpc"
)

// Host is what the program around a member lends it and is told by it. All fields may be left empty. The functions must not wait
// for the member.
type Host struct {
	// FS is where the member's two databases stand; nil is the operating system's filesystem.
	FS vfs.FS
	// Clock is what the member, its services and its connections to others go by; nil is the machine's.
	Clock clock.Clock
	// Clients and Peers are used in place of listeners of one's own: one for each of ListenClientURLs and of ListenPeerURLs, in
	// their order, or none at all. They carry no TLS yet. They are closed when RunIn returns.
	Clients, Peers []net.Listener
	// Local is served to clients inside the process, by gRPC without TLS. It is closed when RunIn returns.
	Local net.Listener

	// Handlers are served on the addresses of HTTP clients beside the member's own, by patterns of http.ServeMux; Register adds
	// gRPC services beside the member's own. Options are further ones of the gRPC server, such as interceptors in a chain, which
	// come after the member's own.
	Handlers map[string]http.Handler
	Register func(*grpc.Server)
	Options  []grpc.ServerOption

	// Started is told of the member when it runs, and Serving when its clients are served. Both are called again when the member
	// begins anew with a state that was rebuilt.
	Started, Serving func(*member.Member)
	// Removed is told that the member ends because it was removed from its cluster.
	Removed func()
}

// lending is a Host whose listeners are lent to one member after the other.
type lending struct {
	Host
	clients, peers []*lent
	local          *lent
}

func newLending(h Host) *lending {
	if h.FS == nil {
		h.FS = vfs.Default
	}
	if h.Clock == nil {
		h.Clock = clock.Real()
	}
	x := &lending{Host: h}
	for _, l := range h.Clients {
		x.clients = append(x.clients, lend(l))
	}
	for _, l := range h.Peers {
		x.peers = append(x.peers, lend(l))
	}
	if h.Local != nil {
		x.local = lend(h.Local)
	}
	return x
}

// listen returns the listeners of one member: those of the host, or new ones.
func (x *lending) listen(ctx context.Context, cfg *config.Config) (forClients, forPeers []net.Listener, err error) {
	if x.clients == nil && x.peers == nil {
		return Listen(ctx, cfg)
	}
	if len(x.clients) != len(cfg.ListenClientURLs) || len(x.peers) != len(cfg.ListenPeerURLs) {
		return nil, nil, errors.New("there must be one listener for each address to listen on")
	}
	return loans(x.clients), loans(x.peers), nil
}

// handler adds the host's handlers to the member's, which has what none of them is for.
func (x *lending) handler(own http.Handler) http.Handler {
	if len(x.Handlers) == 0 {
		return own
	}
	mux := http.NewServeMux()
	for pattern, h := range x.Handlers {
		mux.Handle(pattern, h)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		own.ServeHTTP(w, r)
	})
}

// register adds the host's services to the member's. REQUIRES: the server is grpc-go's if there are such services.
func (x *lending) register(s rpc.Server) {
	if x.Register != nil {
		x.Register(s.(*grpc.Server))
	}
}

// forLocal returns the listener of clients inside the process, if there is one.
func (x *lending) forLocal() []net.Listener {
	if x.local == nil {
		return nil
	}
	return loans([]*lent{x.local})
}

func (x *lending) started(m *member.Member) {
	if x.Started != nil {
		x.Started(m)
	}
}

func (x *lending) serving(m *member.Member) {
	if x.Serving != nil {
		x.Serving(m)
	}
}

func (x *lending) removed() {
	if x.Removed != nil {
		x.Removed()
	}
}

// close closes what the host gave.
func (x *lending) close() error {
	var errs []error
	for _, l := range append(x.clients, x.peers...) {
		errs = append(errs, l.close())
	}
	if x.local != nil {
		errs = append(errs, x.local.close())
	}
	return errors.Join(errs...)
}
