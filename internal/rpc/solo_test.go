package rpc

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/member"
)

// solo is a real member on a filesystem in memory, alone in its cluster, that counts what is asked of it.
type solo struct {
	*member.Member

	mu       sync.Mutex
	barriers int
	proposed int
	refuse   error // what proposals and barriers answer when set
}

// soloMax is the limit of a request.
const soloMax = 1 << 20

func newSolo(t testing.TB) *solo {
	t.Helper()
	return newSoloWith(t, func(*member.Config) {})
}

// newSoloWith is newSolo with what change makes of its configuration.
func newSoloWith(t testing.TB, change func(*member.Config)) *solo {
	t.Helper()
	cfg := soloConfig(t)
	change(&cfg)
	m, err := member.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m.Start()
	t.Cleanup(func() {
		if err := m.Stop(); err != nil {
			t.Error(err)
		}
	})
	<-m.Ready()
	return &solo{Member: m}
}

// soloConfig is that of a member alone in its cluster.
func soloConfig(t testing.TB) member.Config {
	t.Helper()
	initial, err := cluster.ParseInitialCluster("solo=http://127.0.0.1:2380")
	if err != nil {
		t.Fatal(err)
	}
	return member.Config{
		Name: "solo", DataDir: "data", FS: vfs.NewMem(), InitialCluster: initial, Token: "test",
		ClientURLs:   []string{"http://127.0.0.1:2379"},
		TickInterval: 10 * time.Millisecond, ElectionTicks: 10, HeartbeatTicks: 1,
		RequestTimeout: time.Minute, MaxRequestBytes: soloMax, SnapshotCatchUpEntries: 100,
		Clock: clock.Real(), Logger: discard(), Fatal: func(err error) { t.Error(err) },
	}
}

func (s *solo) Propose(ctx context.Context, c apply.Command, raw []byte) (apply.Result, error) {
	s.mu.Lock()
	s.proposed++
	err := s.refuse
	s.mu.Unlock()
	if err != nil {
		return apply.Result{}, err
	}
	return s.Member.Propose(ctx, c, raw)
}

func (s *solo) ReadBarrier(ctx context.Context) error {
	s.mu.Lock()
	s.barriers++
	err := s.refuse
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.Member.ReadBarrier(ctx)
}

func (s *solo) counts() (barriers, proposed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.barriers, s.proposed
}

func (s *solo) setRefuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = err
}

func discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }
func put(t testing.TB, s *solo, key, value string) {
	t.Helper()
	raw := marshal(t, &etcdserverpb.PutRequest{Key: []byte(key), Value: []byte(value)})
	if _, err := s.Propose(context.Background(), apply.CommandPut, raw); err != nil {
		t.Fatal(err)
	}
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// serve runs a server on s and returns a connection to it.
func serve(t testing.TB, s *solo, o Options, kv KVOptions) *grpc.ClientConn {
	t.Helper()
	return serveServices(t, s, o, func(services *Services) { services.KV = NewKV(s, kv) })
}

// serveServices runs a server on s with what change makes of its services.
func serveServices(t testing.TB, s *solo, o Options, change func(*Services), dial ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	if o.MaxRequestBytes == 0 {
		o.MaxRequestBytes = soloMax
	}
	if o.HasLeader == nil {
		o.HasLeader = func() bool { return true }
	}
	if o.Logger == nil {
		o.Logger = discard()
	}
	srv := NewServer(o)
	services := Services{
		KV:          NewKV(s, KVOptions{}),
		Maintenance: NewMaintenance(nil, func() Status { return Status{ClusterID: s.ClusterID(), EtcdVersion: "3.7.1"} }),
		Cluster:     NewCluster(s),
	}
	change(&services)
	services.Register(srv)
	lis := bufconn.Listen(1 << 20)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(lis) }()
	conn, err := grpc.NewClient("passthrough:///solo", append(dial, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		srv.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return conn
}
