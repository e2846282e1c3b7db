package rpc

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/member"
)

// runMember runs a member of its own on the real filesystem.
func runMember(t *testing.T) *member.Member {
	t.Helper()
	initial, err := cluster.ParseInitialCluster("solo=http://127.0.0.1:2380")
	if err != nil {
		t.Fatal(err)
	}
	m, err := member.Open(member.Config{
		Name: "solo", DataDir: t.TempDir(), FS: vfs.Default, InitialCluster: initial, Token: "test",
		ClientURLs:   []string{"http://127.0.0.1:2379"},
		TickInterval: 10 * time.Millisecond, ElectionTicks: 10, HeartbeatTicks: 1, PreVote: true,
		RequestTimeout: time.Minute, MaxRequestBytes: 2 << 20, SnapshotCatchUpEntries: 4, NoSync: true,
		Clock: clock.Real(), Logger: discard(),
		Fatal: func(err error) { t.Errorf("the member failed: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	m.Start()
	t.Cleanup(func() {
		if err := m.Stop(); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-m.Ready():
	case <-t.Context().Done():
		t.Fatal("the member did not become ready")
	}
	return m
}

// maintain serves the Maintenance service of a member.
func maintain(t *testing.T, m *member.Member) etcdserverpb.MaintenanceClient {
	t.Helper()
	conn := serveServices(t, newSolo(t), Options{}, func(s *Services) {
		s.Maintenance = NewMaintenance(m, func() Status {
			st := m.Status()
			return Status{MemberID: m.ID(), Leader: st.Leader, Revision: st.Revision, Downgrade: m.Members().Downgrade()}
		})
	})
	return etcdserverpb.NewMaintenanceClient(conn)
}

func putValue(t *testing.T, m *member.Member, key string, value []byte) {
	t.Helper()
	raw, err := proto.Marshal(&etcdserverpb.PutRequest{Key: []byte(key), Value: value})
	if err == nil {
		_, err = m.Propose(t.Context(), apply.CommandPut, raw)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestSnapshotIsAFileInBlobsAndItsChecksum(t *testing.T) {
	t.Parallel()
	m := runMember(t)
	for _, key := range []string{"a", "b", "c"} {
		putValue(t, m, key, make([]byte, 300_000))
	}
	stream, err := maintain(t, m).Snapshot(t.Context(), &etcdserverpb.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var file []byte
	last := &etcdserverpb.SnapshotResponse{}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if r.Version != "3.7.0" || r.Header != nil || len(r.Blob) > snapshotBlobBytes {
			t.Errorf("a message with header %v, version %q, %d bytes", r.Header, r.Version, len(r.Blob))
		}
		if len(last.Blob) > 0 && last.RemainingBytes != r.RemainingBytes+uint64(len(r.Blob)) && len(r.Blob) != sha256.Size {
			t.Errorf("%d bytes remain after %d bytes, before %d", r.RemainingBytes, len(r.Blob), last.RemainingBytes)
		}
		file, last = append(file, r.Blob...), r
	}
	body := file[:len(file)-sha256.Size]
	if sum := sha256.Sum256(body); string(sum[:]) != string(last.Blob) || last.RemainingBytes != 0 {
		t.Errorf("the checksum is %x, want %x; %d bytes remain", last.Blob, sum, last.RemainingBytes)
	}
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := etcdfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	rev, err := f.Revision()
	if err = errors.Join(err, f.Close()); err != nil || rev != 4 {
		t.Errorf("the file is at revision %d, want 4, %v", rev, err)
	}
}

func TestBlobsAreEncodedSnapshotResponses(t *testing.T) {
	t.Parallel()
	m := runMember(t)
	putValue(t, m, "a", make([]byte, 300_000))
	e, err := m.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := newCodec(&Measures{})
	sum := sha256.New()
	for e.Left() > 0 {
		left := e.Left()
		b, err := nextBlob(e, sum)
		if err != nil {
			t.Fatal(err)
		}
		data, err := c.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		var got etcdserverpb.SnapshotResponse
		if err := proto.Unmarshal(data.Materialize(), &got); err != nil {
			t.Fatal(err)
		}
		if got.RemainingBytes != uint64(e.Left()) || int64(len(got.Blob)) != left-e.Left() || got.Version != e.Version() {
			t.Errorf("%d bytes of version %q, %d remain; want %d of %q, %d", len(got.Blob), got.Version, got.RemainingBytes, left-e.Left(), e.Version(), e.Left())
		}
		if want, err := proto.Marshal(&got); err != nil || string(want) != string(data.Materialize()) {
			t.Errorf("a message of %d bytes is not as protobuf encodes it, %v", data.Len(), err)
		}
		data.Free()
		b.drop() // has nothing any more
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestHashes(t *testing.T) {
	t.Parallel()
	m := runMember(t)
	c := maintain(t, m)
	empty, err := c.HashKV(t.Context(), &etcdserverpb.HashKVRequest{})
	if err != nil || empty.CompactRevision != -1 || empty.HashRevision != 1 || empty.Header.Revision != 1 || empty.Hash == 0 {
		t.Errorf("got %v, %v", empty, err)
	}
	_, err = c.HashKV(t.Context(), &etcdserverpb.HashKVRequest{Revision: 9})
	wantStatus(t, err, rpctypes.ErrGRPCFutureRev)
	before, err := c.Hash(t.Context(), &etcdserverpb.HashRequest{})
	if err != nil {
		t.Fatal(err)
	}
	putValue(t, m, "a", []byte("1"))
	after, err := c.Hash(t.Context(), &etcdserverpb.HashRequest{})
	if err != nil || after.Hash == before.Hash || after.Header.Revision != 2 {
		t.Errorf("before %v, after %v, %v", before, after, err)
	}
	d, err := c.Defragment(t.Context(), &etcdserverpb.DefragmentRequest{})
	if err != nil || d.Header != nil {
		t.Errorf("defragment: %v, %v", d, err)
	}
}

func TestDowngradesAreToldAndRefused(t *testing.T) {
	t.Parallel()
	c := maintain(t, runMember(t))
	const (
		validate = etcdserverpb.DowngradeRequest_VALIDATE
		enable   = etcdserverpb.DowngradeRequest_ENABLE
		cancel   = etcdserverpb.DowngradeRequest_CANCEL
	)
	for _, step := range []struct {
		action  etcdserverpb.DowngradeRequest_DowngradeAction
		version string
		err     error
		info    *etcdserverpb.DowngradeInfo
	}{
		{validate, "", rpctypes.ErrGRPCWrongDowngradeVersionFormat, &etcdserverpb.DowngradeInfo{}},
		{enable, "3.5.0", rpctypes.ErrGRPCInvalidDowngradeTargetVersion, &etcdserverpb.DowngradeInfo{}},
		{validate, "3.6.0", nil, &etcdserverpb.DowngradeInfo{}},
		{9, "3.6.0", status.Error(codes.Unknown, "etcdserver: unknown method"), &etcdserverpb.DowngradeInfo{}},
		{cancel, "", nil, &etcdserverpb.DowngradeInfo{}},
		{enable, "3.6.0", nil, &etcdserverpb.DowngradeInfo{Enabled: true, TargetVersion: "3.6.0"}},
		{cancel, "", nil, &etcdserverpb.DowngradeInfo{}},
	} {
		r, err := c.Downgrade(t.Context(), &etcdserverpb.DowngradeRequest{Action: step.action, Version: step.version})
		if step.err != nil {
			wantStatus(t, err, step.err)
		} else if err != nil || r.Version == "" || r.Header.GetRevision() != 1 {
			t.Errorf("%v %q: got %v, %v", step.action, step.version, r, err)
		}
		st, err := c.Status(t.Context(), &etcdserverpb.StatusRequest{})
		if err != nil || !proto.Equal(st.DowngradeInfo, step.info) {
			t.Errorf("%v %q: status %v, %v", step.action, step.version, st.DowngradeInfo, err)
		}
	}
}

func TestMoveLeader(t *testing.T) {
	t.Parallel()
	m := runMember(t)
	leader := m.ID()
	service := NewMaintenance(m, func() Status { return Status{MemberID: m.ID(), Leader: leader} })
	move := func(to uint64) error {
		_, err := service.MoveLeader(context.Background(), &etcdserverpb.MoveLeaderRequest{TargetID: to})
		return err
	}
	if err := move(m.ID()); err != nil {
		t.Errorf("to itself: %v", err)
	}
	wantStatus(t, move(0), rpctypes.ErrGRPCBadLeaderTransferee)
	wantStatus(t, move(1), rpctypes.ErrGRPCBadLeaderTransferee)
	leader++
	wantStatus(t, move(m.ID()), rpctypes.ErrGRPCNotLeader)
}
