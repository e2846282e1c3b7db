package rpc

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// rawCodec lets a client send any bytes.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error)   { return v.([]byte), nil }
func (rawCodec) Unmarshal(b []byte, v any) error { *(v.(*[]byte)) = bytes.Clone(b); return nil }
func (rawCodec) Name() string                    { return "proto" }

// onBothTransports runs a test on our own server and on grpc-go's.
func onBothTransports(t *testing.T, f func(t *testing.T, o Options)) {
	for name, stock := range map[string]bool{"own": false, "stock": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, Options{Stock: stock})
		})
	}
}

func TestBytesThatAreNoRequest(t *testing.T) {
	t.Parallel()
	onBothTransports(t, func(t *testing.T, o Options) {
		conn := serve(t, newSolo(t), o, KVOptions{})
		for _, c := range []struct {
			name, method, raw string
			code              codes.Code
			text              string
		}{
			{"a broken tag", "KV/Put", "\xff", codes.Internal, "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data"},
			{"a length beyond the end", "KV/Txn", "\x12\x03\x12\x05a", codes.Internal, "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data"},
			{"a broken tag to another service", "Cluster/MemberList", "\xff", codes.Internal, "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data"},
			{"a number where a key should be", "KV/Put", "\x08\x01", codes.InvalidArgument, "etcdserver: key is not provided"},
			{"unknown fields", "KV/Put", "\x0a\x01a\x7a\x01z", codes.OK, ""},
			{"an unknown method", "KV/Nothing", "", codes.Unimplemented, "unknown method Nothing for service etcdserverpb.KV"},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				var out []byte
				err := conn.Invoke(context.Background(), "/etcdserverpb."+c.method, []byte(c.raw), &out, grpc.ForceCodec(rawCodec{}))
				// Package proto writes a space or a no-break space after its name, by chance.
				text := strings.ReplaceAll(status.Convert(err).Message(), "\u00a0", " ")
				if status.Code(err) != c.code || text != c.text {
					t.Errorf("got %v", err)
				}
			})
		}
	})
}

func TestServicesThatAServerWasNotGivenSaySo(t *testing.T) {
	t.Parallel()
	onBothTransports(t, func(t *testing.T, o Options) {
		conn := serve(t, newSolo(t), o, KVOptions{})
		ctx := context.Background()
		_, err := etcdserverpb.NewLeaseClient(conn).LeaseGrant(ctx, &etcdserverpb.LeaseGrantRequest{})
		wantStatus(t, err, status.Error(codes.Unimplemented, "method LeaseGrant not implemented"))
		_, err = etcdserverpb.NewAuthClient(conn).AuthEnable(ctx, &etcdserverpb.AuthEnableRequest{})
		wantStatus(t, err, status.Error(codes.Unimplemented, "method AuthEnable not implemented"))
		w, err := etcdserverpb.NewWatchClient(conn).Watch(ctx)
		if err == nil {
			_, err = w.Recv()
		}
		wantStatus(t, err, status.Error(codes.Unimplemented, "method Watch not implemented"))
	})
}

func TestStatusMembersAndHealth(t *testing.T) {
	t.Parallel()
	onBothTransports(t, func(t *testing.T, o Options) {
		s := newSolo(t)
		conn := serve(t, s, o, KVOptions{})
		ctx := context.Background()
		st, err := etcdserverpb.NewMaintenanceClient(conn).Status(ctx, &etcdserverpb.StatusRequest{})
		if err != nil || st.Version != "3.7.1" || st.DowngradeInfo == nil || len(st.Errors) != 1 || st.Errors[0] != "etcdserver: no leader" {
			t.Errorf("status %v, %v", st, err)
		}
		for _, linearizable := range []bool{false, true} {
			before, _ := s.counts()
			l, err := etcdserverpb.NewClusterClient(conn).MemberList(ctx, &etcdserverpb.MemberListRequest{Linearizable: linearizable})
			after, _ := s.counts()
			if err != nil || l.Header.Revision != 0 || l.Header.MemberId != s.ID() || len(l.Members) != 1 || l.Members[0].Name != "solo" || (after > before) != linearizable {
				t.Errorf("member list %v, %v", l, err)
			}
		}
		h, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		if err != nil || h.Status != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Errorf("health %v, %v", h, err)
		}
	})
}

func TestClientsThatDemandALeader(t *testing.T) {
	t.Parallel()
	onBothTransports(t, func(t *testing.T, o Options) {
		o.HasLeader = func() bool { return false }
		kv := etcdserverpb.NewKVClient(serve(t, newSolo(t), o, KVOptions{}))
		for _, c := range []struct {
			value string
			want  error
		}{{"true", rpctypes.ErrGRPCNoLeader}, {"false", nil}, {"", nil}} {
			ctx := metadata.AppendToOutgoingContext(context.Background(), "hasleader", c.value)
			_, err := kv.Range(ctx, &etcdserverpb.RangeRequest{Key: []byte("a")})
			wantStatus(t, err, c.want)
			stream, err := kv.RangeStream(ctx, &etcdserverpb.RangeRequest{Key: []byte("a")})
			if err == nil {
				_, err = stream.Recv()
			}
			wantStatus(t, err, c.want)
		}
	})
}

// journal is a log in memory.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) { j.mu.Lock(); defer j.mu.Unlock(); return j.b.Write(p) }
func (j *journal) String() string              { j.mu.Lock(); defer j.mu.Unlock(); return j.b.String() }

func TestSlowRequestsAreLoggedWithoutTheirContent(t *testing.T) {
	t.Parallel()
	onBothTransports(t, func(t *testing.T, o Options) {
		var j journal
		log := slog.New(slog.NewJSONHandler(&j, nil))
		o.SlowRequest, o.Logger = time.Nanosecond, log
		kv := etcdserverpb.NewKVClient(serve(t, newSolo(t), o, KVOptions{}))
		if _, err := kv.Put(context.Background(), &etcdserverpb.PutRequest{Key: []byte("secret"), Value: []byte("secret")}); err != nil {
			t.Fatal(err)
		}
		_, _ = kv.Put(context.Background(), &etcdserverpb.PutRequest{})
		if _, err := kv.Range(context.Background(), &etcdserverpb.RangeRequest{Key: []byte("secret")}); err != nil {
			t.Fatal(err)
		}
		got := j.String()
		for _, want := range []string{`"slow request"`, `"method":"/etcdserverpb.KV/Put"`, `"request_bytes":16`, `"response_bytes"`, `key is not provided`,
			`"phases":{"receive":`, `"raft":`, `"apply":`, `"answer":`, `"read":`} {
			if !strings.Contains(got, want) {
				t.Errorf("no %s in %s", want, got)
			}
		}
		if strings.Contains(got, "secret") {
			t.Errorf("content in %s", got)
		}
	})
}

func TestAnInterceptorSeesTheRequestAndMayFailIt(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	fill(t, s, 100, 60<<10)
	var seen []string
	var mu sync.Mutex
	look := grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		r := req.(*Request)
		m, err := r.Message()
		if err != nil {
			return nil, err
		}
		mu.Lock()
		seen = append(seen, info.FullMethod, string(m.(*etcdserverpb.RangeRequest).Key))
		mu.Unlock()
		if _, err := next(ctx, req); err != nil {
			return nil, err
		}
		return nil, status.Error(codes.Aborted, "afterwards")
	})
	kv := etcdserverpb.NewKVClient(serve(t, s, Options{Extra: []grpc.ServerOption{look}}, KVOptions{ResponseBudget: 1 << 20}))
	for range 3 { // the budget would run out if a response were forgotten
		_, err := kv.Range(context.Background(), &etcdserverpb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("z")})
		wantStatus(t, err, status.Error(codes.Aborted, "afterwards"))
	}
	if len(seen) != 6 || seen[0] != "/etcdserverpb.KV/Range" || seen[1] != "a" {
		t.Errorf("seen %q", seen)
	}
}

func TestASlowRequestNamesItsClient(t *testing.T) {
	t.Parallel()
	l, conn, err := Local()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	defer l.Close()
	for _, c := range []struct {
		from       net.Addr
		said, want string
	}{
		{&net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 7}, "10.0.0.1", `"expected":1,"client":"10.0.0.2:7"}`},
		{l.Addr(), "6.6.6.6, 10.0.0.1", `"expected":1,"client":"10.0.0.1","via":"gateway"}`},
		{l.Addr(), "", `"expected":1}`},
	} {
		var j journal
		g := &guard{slow: 1, hasLeader: func() bool { return true }, log: slog.New(slog.NewJSONHandler(&j, nil))}
		ctx := metadata.NewIncomingContext(peer.NewContext(t.Context(), &peer.Peer{Addr: c.from}), metadata.Pairs("x-forwarded-for", c.said))
		g.tell(ctx, "/m", 2, nil, nil, nil)
		if got := j.String(); !strings.Contains(got, c.want) {
			t.Errorf("want %s in %s", c.want, got)
		}
	}
}
