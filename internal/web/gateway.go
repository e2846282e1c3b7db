package web

import (
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb/gw"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/ashlar-kv/ashlar/internal/lockpb"
)

// The prefixes of the JSON API's paths: the one of today, and the one that etcd 3.3 had and still takes.
const (
	gatewayPath    = "/v3/"
	gatewayOldPath = "/v3beta/"
)

// streaming are the paths whose requests are a stream: a body may hold many, and answers come before it has ended.
var streaming = []string{"/v3/watch", "/v3/lease/keepalive"}

// bodyPatience is how long the body of a single request may take to come.
const bodyPatience = time.Minute

// GatewayOptions describes a gateway.
type GatewayOptions struct {
	// Conn leads to the services of the member. It is the caller's to close. Required.
	Conn grpc.ClientConnInterface
	// MaxRequestBytes is the limit of an encoded request; JSON may take what an encoding in text needs more.
	MaxRequestBytes int
	// Origins are the origins of pages that may open a websocket, as in Options.
	Origins []string
}

// Gateway is the JSON API: it answers POST requests and websockets at /v3/… by calls of the services.
//
// A request is a JSON object in the form of protojson, and its answer is one; a call with a stream of answers gives one object
// {"result": …} a line. What clients of different releases of etcd expect of an error is in gateway_encoding.go.
type Gateway struct {
	mux     *runtime.ServeMux
	origins origins
	// bodyMax bounds what is read for one message.
	bodyMax int64
	ctx     context.Context // ends websockets
	close   context.CancelFunc
}

// NewGateway returns the gateway to the services at the other end of a connection. Close it to end its websockets.
func NewGateway(o GatewayOptions) (*Gateway, error) {
	ctx, cancel := context.WithCancel(context.Background())
	g := &Gateway{origins: o.Origins, ctx: ctx, close: cancel, bodyMax: bodyLimit(o.MaxRequestBytes)}
	g.mux = runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, newEncoding()),
		runtime.WithErrorHandler(answerError),
		runtime.WithStreamErrorHandler(streamError),
	)
	if err := registerGateway(ctx, g.mux, o.Conn); err != nil {
		cancel()
		return nil, err
	}
	return g, nil
}

// bodyLimit is what a JSON text may take that holds a request of n bytes and some more, which the server refuses in its own
// words: base64 takes four bytes for three, and escapes of text up to six for one.
func bodyLimit(n int) int64 {
	const overhead = 1 << 20
	return min(int64(n), math.MaxInt64/8-overhead)*6 + overhead
}

func registerGateway(ctx context.Context, mux *runtime.ServeMux, conn grpc.ClientConnInterface) error {
	return errors.Join(
		gw.RegisterKVHandlerClient(ctx, mux, etcdserverpb.NewKVClient(conn)),
		gw.RegisterWatchHandlerClient(ctx, mux, etcdserverpb.NewWatchClient(conn)),
		gw.RegisterLeaseHandlerClient(ctx, mux, etcdserverpb.NewLeaseClient(conn)),
		gw.RegisterClusterHandlerClient(ctx, mux, etcdserverpb.NewClusterClient(conn)),
		gw.RegisterMaintenanceHandlerClient(ctx, mux, etcdserverpb.NewMaintenanceClient(conn)),
		gw.RegisterAuthHandlerClient(ctx, mux, etcdserverpb.NewAuthClient(conn)),
		lockpb.RegisterLockHandlerClient(ctx, mux, lockpb.NewLockClient(conn)),
		lockpb.RegisterElectionHandlerClient(ctx, mux, lockpb.NewElectionClient(conn)),
	)
}

// Close ends all websockets. Other requests end with the services or the HTTP server.
func (g *Gateway) Close() { g.close() }

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if rest, old := strings.CutPrefix(r.URL.Path, gatewayOldPath); old {
		u := *r.URL
		u.Path, u.RawPath = gatewayPath+rest, ""
		r = r.WithContext(r.Context())
		r.URL = &u
	}
	if isWebsocket(r) {
		g.serveSocket(w, r)
		return
	}
	control := http.NewResponseController(w)
	many := slices.Contains(streaming, r.URL.Path)
	came := func() {}
	if many {
		// A server of HTTP/1 would otherwise read the whole body before it sends the first answer.
		_ = control.EnableFullDuplex() // unsupported where it is not needed
	} else if control.SetReadDeadline(time.Now().Add(bodyPatience)) == nil {
		came = func() { _ = control.SetReadDeadline(time.Time{}) }
	}
	g.answer(w, r, &body{many: many, rest: !many, came: came})
}

// answer answers the requests in a body, of which many, rest and came are set; came is called once the only one of a single call has
// been read.
func (g *Gateway) answer(w http.ResponseWriter, r *http.Request, b *body) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	b.ReadCloser, b.max, b.left, b.cancel = r.Body, g.bodyMax, g.bodyMax, cancel
	defer b.finish()
	r = r.WithContext(context.WithValue(ctx, bodyKey{}, b))
	r.Body = b
	g.mux.ServeHTTP(w, r)
}

// answerError answers a request that failed before its answer began.
func answerError(ctx context.Context, mux *runtime.ServeMux, m runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	runtime.DefaultHTTPErrorHandler(ctx, mux, m, w, r, failure(ctx, err))
}

// streamError tells what ends a stream of answers.
func streamError(ctx context.Context, err error) *status.Status {
	return status.Convert(failure(ctx, err))
}
