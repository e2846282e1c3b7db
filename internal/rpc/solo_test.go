package rpc

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/member"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// solo is a member without a log: the real state machine on a store in memory, to which each proposal is applied at
// once.
type solo struct {
	store   *mvcc.Store
	members *cluster.Membership
	machine *apply.Machine

	mu       sync.Mutex
	index    uint64
	barriers int
	proposed int
	refuse   error // what proposals and barriers answer when set
}

const (
	soloCluster = 0x1111
	soloMember  = 0xffffffffffffffff
	soloTerm    = 2
	soloMax     = 1 << 20
)

func newSolo(t testing.TB) *solo {
	t.Helper()
	db, err := storage.OpenState("state", storage.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	store, err := mvcc.Open(db)
	if err != nil {
		t.Fatal(err)
	}
	members, err := cluster.Load(db)
	if err != nil {
		t.Fatal(err)
	}
	return &solo{store: store, members: members, machine: apply.New(store, members)}
}

func (s *solo) Propose(ctx context.Context, c apply.Command, raw []byte) (res apply.Result, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return res, s.refuse
	}
	s.index++
	s.proposed++
	data := apply.Encode(apply.Header{ID: s.index}, c, raw)
	if len(data) > soloMax {
		return res, member.ErrRequestTooLarge
	}
	entry := &raftpb.Entry{Index: proto.Uint64(s.index), Term: proto.Uint64(soloTerm), Type: raftpb.EntryNormal.Enum(), Data: data}
	err = s.machine.Apply([]*raftpb.Entry{entry}, func(uint64) bool { return true }, func(_ uint64, r apply.Result) { res = r })
	if err == nil {
		err = res.Err
	}
	return res, err
}

func (s *solo) ReadBarrier(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.barriers++
	return s.refuse
}

func (s *solo) View(rev int64) (*mvcc.View, error)         { return s.store.View(rev) }
func (s *solo) WaitCompacted(context.Context, int64) error { return nil }
func (s *solo) Header() (clusterID, memberID, term uint64) { return soloCluster, soloMember, soloTerm }
func (s *solo) Members() *cluster.Membership               { return s.members }
func (s *solo) counts() (barriers, proposed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.barriers, s.proposed
}
func (s *solo) setRefuse(err error) { s.mu.Lock(); defer s.mu.Unlock(); s.refuse = err }
func discard() *slog.Logger         { return slog.New(slog.NewTextHandler(io.Discard, nil)) }
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
	Services{
		KV:          NewKV(s, kv),
		Maintenance: NewMaintenance(func() Status { return Status{ClusterID: soloCluster, EtcdVersion: "3.7.1"} }),
		Cluster:     NewCluster(s),
	}.Register(srv)
	lis := bufconn.Listen(1 << 20)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(lis) }()
	conn, err := grpc.NewClient("passthrough:///solo", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
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
