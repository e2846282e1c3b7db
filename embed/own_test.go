package embed_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/ashlar-kv/ashlar/embed"
)

// TestAProgramAddsItsOwn pages, services and logger.
func TestAProgramAddsItsOwn(t *testing.T) {
	t.Parallel()
	cfg := onFreePorts(t, "m1")
	core, logs := observer.New(zapcore.InfoLevel)
	cfg.SlogLogger, cfg.ZapLoggerBuilder = nil, embed.NewZapLoggerBuilder(zap.New(core).With(zap.String("program", "p")))
	cfg.UserHandlers = map[string]http.Handler{"/own/": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "own ", r.URL.Path)
	})}
	asked := make(chan struct{}, 1)
	cfg.ServiceRegister = func(s *grpc.Server) {
		s.RegisterService(&grpc.ServiceDesc{ServiceName: "own.Service", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{MethodName: "Ask",
			Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				asked <- struct{}{}
				return &emptypb.Empty{}, decode(&emptypb.Empty{})
			}}}}, struct{}{})
	}
	e := start(t, cfg)
	await(t, "readiness", e.Server.ReadyNotify())
	address := e.Clients[0].Addr().String()
	for path, want := range map[string]string{"/own/page": "own /own/page", "/version": "etcdserver"} {
		a, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(a.Body)
		if _ = a.Body.Close(); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %s, %v", path, text, err)
		}
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := conn.Invoke(ctx, "/own.Service/Ask", &emptypb.Empty{}, &emptypb.Empty{}); err != nil {
		t.Error(err)
	}
	await(t, "the question", asked)
	ready := logs.FilterMessage("ready to serve client requests").All()
	if len(ready) != 1 || ready[0].Level != zapcore.InfoLevel || ready[0].ContextMap()["address"] != address || ready[0].ContextMap()["program"] != "p" {
		t.Errorf("the log has %v", ready)
	}
	put(t, client(t, e), "k", "v")
	if v := e.Server.ClusterVersion(); !strings.HasPrefix(v, "3.") {
		t.Errorf("the cluster has version %q", v)
	}
	if c := e.Server.Cluster(); !c.IsMemberExist(e.Server.MemberID()) || c.IsMemberExist(1) {
		t.Errorf("the members are %v", c.Members())
	}
}

// TestPagesOfAProgramAreHeldToHostsAndOrigins as the member's own are, and as etcd's are.
func TestPagesOfAProgramAreHeldToHostsAndOrigins(t *testing.T) {
	t.Parallel()
	cfg := onFreePorts(t, "m1")
	cfg.HostWhitelist = map[string]struct{}{"good.example": {}}
	cfg.CORS = map[string]struct{}{"http://page.example:80": {}}
	cfg.UserHandlers = map[string]http.Handler{"/own/": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })}
	e := start(t, cfg)
	await(t, "readiness", e.Server.ReadyNotify())
	for name, c := range map[string]struct {
		method, host, origin string
		want                 int
		allowed              string
	}{
		"a host of the list":                {http.MethodGet, "good.example", "", http.StatusTeapot, ""},
		"another name of the same address":  {http.MethodGet, "evil.example", "", http.StatusMisdirectedRequest, ""},
		"from a page of the list":           {http.MethodGet, "good.example", "http://page.example:80", http.StatusTeapot, "http://page.example:80"},
		"from another page":                 {http.MethodGet, "good.example", "http://evil.example", http.StatusTeapot, ""},
		"what a browser asks before others": {http.MethodOptions, "good.example", "http://page.example:80", http.StatusOK, "http://page.example:80"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+e.Clients[0].Addr().String()+"/own/page", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = c.host
		if c.origin != "" {
			req.Header.Set("Origin", c.origin)
		}
		a, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = a.Body.Close()
		if allowed := a.Header.Get("Access-Control-Allow-Origin"); a.StatusCode != c.want || allowed != c.allowed {
			t.Errorf("%s: %s, allowed to %q; want %d, %q", name, a.Status, allowed, c.want, c.allowed)
		}
	}
}

func TestHandlersThatCannotBeServedAreRefused(t *testing.T) {
	t.Parallel()
	cfg := onFreePorts(t, "m1")
	cfg.UserHandlers = map[string]http.Handler{"no path": http.NotFoundHandler()}
	if e, err := embed.StartEtcd(cfg); err == nil || !strings.Contains(err.Error(), "embed: UserHandlers: ") {
		t.Errorf("got %v, %v", e, err)
	}
	cfg = onFreePorts(t, "m1")
	cfg.ZapLoggerBuilder = func(*embed.Config) error { return io.ErrUnexpectedEOF }
	if e, err := embed.StartEtcd(cfg); err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
		t.Errorf("got %v, %v", e, err)
	}
}

func TestFlagsOfAProgramSetFields(t *testing.T) {
	t.Parallel()
	cfg := embed.NewConfig()
	f := flag.NewFlagSet("program", flag.ContinueOnError)
	cfg.AddFlags(f)
	f.SetOutput(io.Discard)
	if err := f.Parse([]string{"--name=m1", "--pre-vote=false", "--force-new-cluster", "--election-timeout", "2000"}); err != nil {
		t.Fatal(err)
	}
	if cfg.Name != "m1" || cfg.PreVote || !cfg.ForceNewCluster || cfg.ElectionMs != 2000 {
		t.Errorf("name %q, pre-vote %v, force %v, election %d", cfg.Name, cfg.PreVote, cfg.ForceNewCluster, cfg.ElectionMs)
	}
	if err := f.Parse([]string{"--heartbeat-interval=x"}); err == nil {
		t.Error("a text is taken for a number")
	}
}

// TestMembersFindEachOtherByDiscoveryCfg in a registry that is a member too.
func TestMembersFindEachOtherByDiscoveryCfg(t *testing.T) {
	t.Parallel()
	service := start(t, onFreePorts(t, "registry"))
	put(t, client(t, service), "/_etcd/registry/token/_config/size", "1")
	cfg := onFreePorts(t, "m1")
	cfg.DiscoveryCfg = embed.DiscoveryConfig{Token: "token", ConfigSpec: clientv3.ConfigSpec{
		Endpoints: []string{service.Clients[0].Addr().String()}, DialTimeout: patience, RequestTimeout: patience}}
	if err := cfg.Set("name", "m2"); err != nil { // Set leaves the other fields as they are
		t.Fatal(err)
	}
	if d := cfg.DiscoveryCfg; d.Token != "token" || d.DialTimeout != patience || d.RequestTimeout != patience {
		t.Errorf("discovery is %v", d)
	}
	e := start(t, cfg)
	await(t, "readiness", e.Server.ReadyNotify())
	if got := get(t, client(t, service), "/_etcd/registry/token/members/"+e.Server.MemberID().String()); !strings.HasPrefix(got, "m2=http://") {
		t.Errorf("registered: %q", got)
	}
}
