package web

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/member"
	"github.com/ashlar-kv/ashlar/internal/rpc"
)

// gatewayMax is the limit of a request.
const gatewayMax = 64 << 10

// gatewayLab is a member with a gateway, served over a real socket.
type gatewayLab struct {
	t      testing.TB
	url    string
	tokens chan metadata.MD // what unary calls carried
}

func newGatewayLab(t testing.TB, o Options) *gatewayLab {
	t.Helper()
	initial, err := cluster.ParseInitialCluster("solo=http://127.0.0.1:2380")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	m, err := member.Open(member.Config{
		Name: "solo", DataDir: "data", FS: vfs.NewMem(), InitialCluster: initial, Token: "test",
		ClientURLs: []string{"http://127.0.0.1:2379"}, TickInterval: 10 * time.Millisecond, ElectionTicks: 10, HeartbeatTicks: 1,
		RequestTimeout: time.Minute, MaxRequestBytes: gatewayMax, SnapshotCatchUpEntries: 100,
		Clock: clock.Real(), Logger: log, Fatal: func(err error) { t.Error(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	m.Start()
	<-m.Ready()
	l := &gatewayLab{t: t, tokens: make(chan metadata.MD, 1)}
	srv := rpc.NewServer(rpc.Options{MaxRequestBytes: gatewayMax, HasLeader: m.HasLeader, Logger: log,
		Extra: []grpc.ServerOption{grpc.ChainUnaryInterceptor(l.note)}})
	kv, leases := rpc.NewKV(m, rpc.KVOptions{}), rpc.NewLease(m)
	watches := rpc.NewWatch(m, rpc.WatchOptions{Clock: clock.Real()})
	line := rpc.NewLine(kv, leases, m.Hub(), clock.Real())
	rpc.Services{KV: kv, Lease: leases, Watch: watches, Cluster: rpc.NewCluster(m), Lock: rpc.NewLock(line), Election: rpc.NewElection(line),
		Maintenance: rpc.NewMaintenance(m, func() rpc.Status { return rpc.Status{} })}.Register(srv)
	listener, conn, err := rpc.Local()
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	g, err := NewGateway(GatewayOptions{Conn: conn, MaxRequestBytes: gatewayMax, Origins: o.Origins})
	if err != nil {
		t.Fatal(err)
	}
	o.Gateway = g
	web := httptest.NewServer(Handler(o))
	l.url = web.URL
	t.Cleanup(func() {
		g.Close()
		watches.Stop()
		leases.Stop()
		line.Stop()
		web.Close()
		srv.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		_ = conn.Close()
		if err := m.Stop(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// note keeps what a call carried, if nobody has asked for the one before.
func (l *gatewayLab) note(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	select {
	case l.tokens <- md:
	default:
	}
	return handler(ctx, req)
}

// open sends a request and returns its answer as it comes.
func (l *gatewayLab) open(ctx context.Context, path string, body io.Reader, headers ...string) *http.Response {
	l.t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url+path, body)
	if err != nil {
		l.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// post returns status and body of an answer.
func (l *gatewayLab) post(path, body string, headers ...string) (int, string) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	resp := l.open(ctx, path, strings.NewReader(body), headers...)
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// wantJSON compares JSON without its headers.
func wantJSON(t testing.TB, got, want string) {
	t.Helper()
	if g, w := plainJSON(t, got), plainJSON(t, want); !reflect.DeepEqual(g, w) {
		t.Errorf("got %s, want %s", got, want)
	}
}

func plainJSON(t testing.TB, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%q is no JSON: %v", text, err)
	}
	strip(v)
	return v
}

func strip(v any) {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "header")
		for _, e := range v {
			strip(e)
		}
	case []any:
		for _, e := range v {
			strip(e)
		}
	}
}

func TestGatewaySpeaksTheJSONOfEtcd(t *testing.T) {
	t.Parallel()
	l := newGatewayLab(t, Options{})
	const kv = `{"kvs":[{"key":"YQ==","create_revision":"2","mod_revision":"2","version":"1","value":"MQ=="}],"count":"1"}`
	for _, c := range []struct {
		name, path, body string
		status           int
		want             string
	}{
		{"bytes are base64", "/v3/kv/put", `{"key":"YQ==","value":"MQ=="}`, 200, `{}`},
		{"64-bit numbers are strings", "/v3/kv/range", `{"key":"YQ=="}`, 200, kv},
		{"numbers are taken as strings too", "/v3/kv/range", `{"key":"YQ==","limit":"5","revision":"2"}`, 200, kv},
		{"and as numbers", "/v3/kv/range", `{"key":"YQ==","limit":5}`, 200, kv},
		{"names are taken in camel case too", "/v3/kv/range", `{"key":"YQ==","rangeEnd":"Yg=="}`, 200, kv},
		{"enums are names", "/v3/kv/range", `{"key":"YQ==","sort_order":"DESCEND"}`, 200, kv},
		{"or numbers", "/v3/kv/range", `{"key":"YQ==","sort_order":2}`, 200, kv},
		{"unknown fields are ignored", "/v3/kv/range", `{"key":"YQ==","nonsense":{"a":[1]}}`, 200, kv},
		{"fields of default values are left out", "/v3/kv/range", `{"key":"Yg=="}`, 200, `{}`},
		{"the old prefix", "/v3beta/kv/range", `{"key":"YQ=="}`, 200, kv},
		{"an error has all three fields", "/v3/kv/range", `{}`, 400, `{"error":"etcdserver: key is not provided","code":3,"message":"etcdserver: key is not provided"}`},
		{"no JSON", "/v3/kv/range", `{'key'`, 400, `{"error":"proto: syntax error (line 1:2): invalid value 'key'","code":3,"message":"proto: syntax error (line 1:2): invalid value 'key'"}`},
		{"half a request", "/v3/kv/range", `{"key":`, 400, `{"error":"unexpected EOF","code":3,"message":"unexpected EOF"}`},
		{"a lock", "/v3/lock/unlock", `{"key":"YQ=="}`, 200, `{}`},
		{"an election", "/v3/election/leader", `{"name":"YQ=="}`, 500, `{"error":"election: no leader","code":2,"message":"election: no leader"}`},
		{"no such path", "/v3/kv/nothing", `{}`, 404, `{"error":"Not Found","code":5,"message":"Not Found"}`},
		{"a body that no request needs", "/v3/kv/put", `{"key":"` + strings.Repeat("A", 8*gatewayMax+1<<20) + `"}`, 429,
			`{"error":"etcdserver: request is too large","code":8,"message":"etcdserver: request is too large"}`},
	} {
		status, got := l.post(c.path, c.body)
		if status != c.status {
			t.Errorf("%s: status %d, want %d", c.name, status, c.status)
		}
		if strings.HasPrefix(c.name, "no JSON") {
			continue // the decoder's words are its own
		}
		wantJSON(t, got, c.want)
	}
}

// lines reads an answer line by line.
type lines struct {
	t testing.TB
	d *json.Decoder
}

func (l lines) want(text string) {
	l.t.Helper()
	var raw json.RawMessage
	if err := l.d.Decode(&raw); err != nil {
		l.t.Fatalf("%v, want %s", err, text)
	}
	wantJSON(l.t, string(raw), text)
}

func TestGatewayStreams(t *testing.T) {
	t.Parallel()
	l := newGatewayLab(t, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	in, out := io.Pipe()
	answered := make(chan *http.Response, 1)
	go func() { answered <- l.open(ctx, "/v3/watch", in) }()
	write := func(s string) {
		t.Helper()
		if _, err := out.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"create_request":{"key":"YQ=="}}`)
	s := lines{t, json.NewDecoder((<-answered).Body)}
	s.want(`{"result":{"created":true}}`)
	// The body goes on while answers come.
	write(`{"create_request":{"key":"Yg==","watch_id":"7"}}{"create_request":{"key":"Yg==","watch_id":7}}`)
	s.want(`{"result":{"created":true,"watch_id":"7"}}`)
	s.want(`{"result":{"created":true,"canceled":true,"watch_id":"-1","cancel_reason":"mvcc: duplicate watch ID provided on the WatchStream"}}`)
	if status, got := l.post("/v3/kv/put", `{"key":"Yg==","value":"MQ=="}`); status != 200 {
		t.Fatal(got)
	}
	s.want(`{"result":{"watch_id":"7","events":[{"kv":{"key":"Yg==","value":"MQ==","create_revision":"2","mod_revision":"2","version":"1"}}]}}`)
	write(`{"create_request":5}`)
	var last struct{ Error map[string]any }
	if err := s.d.Decode(&last); err != nil {
		t.Fatal(err)
	}
	delete(last.Error, "message")
	if want := map[string]any{"code": 3.0, "grpc_code": 3.0, "http_code": 400.0, "http_status": "Bad Request"}; !reflect.DeepEqual(last.Error, want) {
		t.Errorf("the stream ended with %v, want %v", last.Error, want)
	}
	if err := s.d.Decode(&last); err != io.EOF {
		t.Errorf("after the error: %v", err)
	}
}

func TestBodiesThatHangEtcdAreAnswered(t *testing.T) {
	t.Parallel()
	l := newGatewayLab(t, Options{})
	for path, bodies := range map[string][]string{
		"/v3/watch":           {`{"create_request":5}`, `{"create_request":{}}{"create_request":[]}`},
		"/v3/lease/keepalive": {`{"ID":[]}`, `{"ID":"x"}`},
	} {
		for _, body := range append(bodies, `{"create_request":`, ``, `5`, `null`, `x`) {
			if status, got := l.post(path, body); status != 400 && !strings.Contains(got, `"error":{"code":3,`) {
				t.Errorf("%s %s: %d %s", path, body, status, got)
			}
		}
	}
}

func TestATokenComesInAnyOfItsForms(t *testing.T) {
	t.Parallel()
	l := newGatewayLab(t, Options{})
	for _, c := range []struct{ name, header, value, key, want string }{
		{"plain", "Authorization", "T.1", "authorization", "T.1"},
		{"as a bearer token", "Authorization", "Bearer T.1", "authorization", "Bearer T.1"}, // the services take the word off
		{"as metadata", "Grpc-Metadata-Token", "T.1", "token", "T.1"},
		{"in a header that etcd does not look at", "Token", "T.1", "token", ""},
	} {
		l.post("/v3/kv/range", `{"key":"YQ=="}`, c.header, c.value)
		if got := strings.Join((<-l.tokens).Get(c.key), ","); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestHostsAndOrigins(t *testing.T) {
	t.Parallel()
	l := newGatewayLab(t, Options{Hosts: []string{"good.example"}, Origins: []string{"http://page.example:80"}})
	for _, c := range []struct {
		name, host, origin string
		status             int
		allowed            string
	}{
		{"a name of the list", "good.example", "", 200, ""},
		{"with a port", "good.example:1234", "", 200, ""},
		{"another name", "bad.example", "", 421, ""},
		{"an origin of the list", "good.example", "http://page.example:80", 200, "http://page.example:80"},
		{"another origin", "good.example", "http://other.example:80", 200, ""},
	} {
		headers := []string{"Host", c.host}
		if c.origin != "" {
			headers = append(headers, "Origin", c.origin)
		}
		resp := l.open(t.Context(), "/v3/kv/range", strings.NewReader(`{"key":"YQ=="}`), headers...)
		if got := resp.Header.Get("Access-Control-Allow-Origin"); resp.StatusCode != c.status || got != c.allowed {
			t.Errorf("%s: %d %q", c.name, resp.StatusCode, got)
		}
	}
	tls := httptest.NewRequest(http.MethodGet, "https://bad.example/version", nil)
	w := httptest.NewRecorder()
	hosts{"good.example"}.only(http.NotFoundHandler()).ServeHTTP(w, tls)
	if w.Code != http.StatusNotFound {
		t.Errorf("with TLS: %d", w.Code)
	}
}

func TestWithoutAGatewayThereIsNoPathOfIt(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	Handler(Options{}).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v3/kv/range", strings.NewReader(`{}`)))
	if w.Code != http.StatusNotFound || w.Body.String() != "404 page not found\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// FuzzGateway: whatever the body, a call without a stream is answered, and a stream is answered or waits and ends with its
// client; nothing panics.
func FuzzGateway(f *testing.F) {
	paths := []string{"/v3/kv/range", "/v3/kv/put", "/v3/kv/txn", "/v3/kv/deleterange", "/v3/lease/grant", "/v3/lease/timetolive",
		"/v3/watch", "/v3/lease/keepalive", "/v3/election/leader", "/v3/election/proclaim", "/v3/lock/unlock", "/v3/cluster/member/list"}
	for i, s := range []string{`{"key":"YQ=="}`, `{"key":"YQ==","value":5}`, `{"success":[{"request_txn":{"success":[{}]}}]}`, `[`, `{"TTL":"x"}`, `null`,
		`{"create_request":5}`, `{"ID":7}{"ID":8}`, `{"name":null}`, `{"leader":{}}`, "\x00", strings.Repeat(`{"a":`, 20000)} {
		f.Add(i, []byte(s))
	}
	l := newGatewayLab(f, Options{})
	f.Fuzz(func(t *testing.T, i int, body []byte) {
		path := paths[uint(i)%uint(len(paths))]
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if path == streaming[0] || path == streaming[1] {
			ctx, cancel = context.WithTimeout(ctx, 50*time.Millisecond)
			defer cancel()
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		if err != nil && (ctx.Err() == nil || !strings.HasPrefix(path, "/v3/watch") && !strings.HasPrefix(path, "/v3/lease/keep")) {
			t.Errorf("%s %q: %v", path, body, err)
		}
	})
}
