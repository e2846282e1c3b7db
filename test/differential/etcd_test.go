package differential

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/coreos/go-semver/semver"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/pkg/v3/wait"
	"go.etcd.io/etcd/server/v3/auth"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3alarm"
	etcdapply "go.etcd.io/etcd/server/v3/etcdserver/apply"
	"go.etcd.io/etcd/server/v3/etcdserver/cindex"
	"go.etcd.io/etcd/server/v3/etcdserver/txn"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
)

// Both machines believe to be this member.
const (
	memberSelf  = 0x5e1f
	clusterID   = 0xc105
	minTTL      = 2
	maxLearners = 1
)

// etcd is the state of a member of etcd with the appliers that its server puts on it, wired as the server does.
type etcd struct {
	t       testing.TB
	be      backend.Backend
	index   cindex.ConsistentIndexer
	kv      mvcc.WatchableKV
	lessor  lease.Lessor
	auth    auth.AuthStore
	authBE  auth.AuthBackend
	alarms  *v3alarm.AlarmStore
	members *membership.RaftCluster
	applier etcdapply.UberApplier
	waiters wait.Wait
	applied uint64
	path    string
}

func newEtcd(t testing.TB) *etcd { return openEtcd(t, filepath.Join(t.TempDir(), "db")) }

// openEtcd opens the database at path as a member does when it starts, and as after a snapshot that it was sent.
func openEtcd(t testing.TB, path string) *etcd {
	e := &etcd{t: t, waiters: wait.New(), path: path}
	cfg := backend.DefaultBackendConfig(zap.NewNop())
	cfg.Path, cfg.UnsafeNoFsync, cfg.BatchInterval = path, true, time.Second
	cfg.MmapSize = 1 << 24
	e.index = cindex.NewConsistentIndex(nil)
	cfg.Hooks = storage.NewBackendHooks(zap.NewNop(), e.index)
	e.be = backend.New(cfg)
	e.index.SetBackend(e.be)
	lg := zap.NewNop()
	members := schema.NewMembershipBackend(lg, e.be)
	members.MustCreateBackendBuckets()
	e.members = membership.NewCluster(lg, membership.WithMaxLearners(maxLearners))
	e.members.SetID(memberSelf, clusterID)
	e.members.SetBackend(members)
	e.members.Recover(func(*zap.Logger, *semver.Version) {})
	e.lessor = lease.NewLessor(lg, e.be, e.members, lease.LessorConfig{MinLeaseTTL: minTTL, CheckpointPersist: true})
	tokens, err := auth.NewTokenProvider(lg, "simple", func(uint64) <-chan struct{} { return nil }, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	e.kv = mvcc.New(lg, e.be, e.lessor, mvcc.StoreConfig{})
	e.authBE = schema.NewAuthBackend(lg, e.be)
	e.auth = auth.NewAuthStore(lg, e.authBE, tokens, 4)
	if e.alarms, err = v3alarm.NewAlarmStore(lg, schema.NewAlarmBackend(lg, e.be)); err != nil {
		t.Fatal(err)
	}
	e.applier = etcdapply.NewUberApplier(etcdapply.ApplierOptions{
		Logger: lg, KV: e.kv, AlarmStore: e.alarms, AuthStore: e.auth, Lessor: e.lessor, Cluster: e.members,
		RaftStatus: status{e}, SnapshotServer: status{e}, ConsistentIndex: e.index, TxnModeWriteWithSharedBuffer: true,
		Backend: e.be, QuotaBackendBytesCfg: 1 << 40, WarningApplyDuration: time.Hour,
	})
	e.be.SetTxPostLockInsideApplyHook(func() {
		if at, term := e.index.ConsistentApplyingIndex(); at > e.index.UnsafeConsistentIndex() {
			e.index.SetConsistentIndex(at, term)
		}
	})
	return e
}

// write writes the database as it is sent to other members.
func (e *etcd) write(path string) error {
	e.be.ForceCommit()
	snap := e.be.Snapshot()
	defer snap.Close()
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = snap.WriteTo(f)
	return errors.Join(err, f.Close())
}

func (e *etcd) close() {
	_ = e.auth.Close()
	e.lessor.Stop()
	_ = e.kv.Close()
	_ = e.be.Close()
}

// status is what the appliers ask of the server around them.
type status struct{ e *etcd }

func (s status) MemberID() types.ID     { return memberSelf }
func (s status) Leader() types.ID       { return memberSelf }
func (s status) CommittedIndex() uint64 { return s.e.applied }
func (s status) AppliedIndex() uint64   { return s.e.applied }
func (s status) Term() uint64           { return term }
func (s status) ForceSnapshot()         {}

// outcome is what a machine made of an entry, in terms of both.
type outcome struct {
	resp proto.Message // without its header
	rev  int64         // of the header, 0 when the response has none
	err  error
}

// apply applies one entry. wanted is whether somebody waits for the result.
func (e *etcd) apply(entry *raftpb.Entry, id uint64, wanted bool) (out outcome, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("etcd panics: %v", p)
		}
	}()
	e.applied = entry.GetIndex()
	e.index.SetConsistentApplyingIndex(entry.GetIndex(), entry.GetTerm())
	defer func() {
		if e.index.ConsistentIndex() < entry.GetIndex() {
			e.index.SetConsistentIndex(entry.GetIndex(), entry.GetTerm())
		}
	}()
	if entry.GetType() == raftpb.EntryConfChange {
		return outcome{err: e.confChange(entry)}, nil
	}
	if len(entry.GetData()) == 0 {
		return outcome{}, nil
	}
	if wanted {
		e.waiters.Register(id)
		defer e.waiters.Trigger(id, nil)
	}
	r, _ := etcdapply.Apply(zap.NewNop(), entry, e.applier, e.waiters, membership.ApplyBoth)
	if r == nil {
		return outcome{}, nil
	}
	if r.Physc != nil {
		<-r.Physc // a compaction works in the background; the machines are compared when it is done
	}
	out.err = r.Err
	if r.Err == nil && r.Resp != nil && r.Resp.ProtoReflect().IsValid() {
		if a, ok := r.Resp.(*etcdserverpb.AlarmResponse); ok {
			slices.SortFunc(a.Alarms, func(a, b *etcdserverpb.AlarmMember) int { // etcd's order is that of a map
				return cmp.Or(cmp.Compare(a.Alarm, b.Alarm), cmp.Compare(a.MemberID, b.MemberID))
			})
		}
		out.resp, out.rev = withoutHeader(r.Resp)
	}
	return out, nil
}

// confChange does what the server does for a configuration change, without raft.
func (e *etcd) confChange(entry *raftpb.Entry) error {
	cc := &raftpb.ConfChange{}
	if err := proto.Unmarshal(entry.GetData(), cc); err != nil {
		return err
	}
	if err := e.members.ValidateConfigurationChange(cc, membership.ApplyBoth); err != nil {
		return err
	}
	id := types.ID(cc.GetNodeId())
	var x membership.ConfigChangeContext
	if cc.GetType() != raftpb.ConfChangeRemoveNode {
		if err := json.Unmarshal(cc.GetContext(), &x); err != nil {
			return err
		}
	}
	switch {
	case cc.GetType() == raftpb.ConfChangeRemoveNode:
		e.members.RemoveMember(id, membership.ApplyBoth)
	case cc.GetType() == raftpb.ConfChangeUpdateNode:
		e.members.UpdateRaftAttributes(id, x.RaftAttributes, membership.ApplyBoth)
	case x.IsPromote:
		e.members.PromoteMember(id, membership.ApplyBoth)
	default:
		e.members.AddMember(&x.Member, membership.ApplyBoth)
	}
	return nil
}

// read answers a range from the state.
func (e *etcd) read(r *etcdserverpb.RangeRequest) outcome {
	resp, _, err := txn.Range(context.Background(), zap.NewNop(), e.kv, received(r), true)
	if err != nil {
		return outcome{err: err}
	}
	body, rev := withoutHeader(resp)
	return outcome{resp: body, rev: rev}
}

// readTxn answers a read-only transaction from the state.
func (e *etcd) readTxn(r *etcdserverpb.TxnRequest) outcome {
	resp, _, err := txn.Txn(context.Background(), zap.NewNop(), received(r), true, e.kv, e.lessor, false)
	if err != nil {
		return outcome{err: err}
	}
	body, rev := withoutHeader(resp)
	return outcome{resp: body, rev: rev}
}

// putsAgain tells whether a revision deletes a key and puts it again.
func (e *etcd) putsAgain(rev int64) bool {
	if rev < 0 || rev == math.MaxInt64 {
		return false
	}
	tx := e.be.ReadTx()
	tx.RLock()
	defer tx.RUnlock()
	keys, values := tx.UnsafeRange(schema.Key, mvcc.RevToBytes(mvcc.Revision{Main: rev}, mvcc.NewRevBytes()),
		mvcc.RevToBytes(mvcc.Revision{Main: rev + 1}, mvcc.NewRevBytes()), math.MaxInt64)
	deleted := map[string]bool{}
	for i := range keys {
		var kv mvccpb.KeyValue
		if err := proto.Unmarshal(values[i], &kv); err != nil {
			panic(fmt.Sprintf("decode what etcd stored: %v", err))
		}
		switch tombstone := len(keys[i]) > len(mvcc.RevToBytes(mvcc.Revision{}, mvcc.NewRevBytes())); {
		case tombstone:
			deleted[string(kv.Key)] = true
		case deleted[string(kv.Key)]:
			return true
		}
	}
	return false
}

// received returns a request as a server sees it: to etcd a range end of no bytes is not one that is absent.
func received[M proto.Message](m M) M {
	raw, err := proto.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("encode a request: %v", err))
	}
	out := m.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(raw, out); err != nil {
		panic(fmt.Sprintf("decode a request: %v", err))
	}
	return out.(M)
}

// withoutHeader returns what a response is on the wire without its header, and the header's revision.
func withoutHeader(m proto.Message) (proto.Message, int64) {
	out := received(m).ProtoReflect()
	f := out.Descriptor().Fields().ByName("header")
	if f == nil || !out.Has(f) {
		return out.Interface(), 0
	}
	h := out.Get(f).Message().Interface().(*etcdserverpb.ResponseHeader)
	out.Clear(f)
	return out.Interface(), h.Revision
}
