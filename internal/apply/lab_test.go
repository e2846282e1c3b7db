package apply

import (
	"io"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/auth"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// lab is a machine on a state in memory.
type lab struct {
	t       testing.TB
	fs      *vfs.MemFS
	wrap    func(vfs.FS) vfs.FS // what the state is kept on instead of fs itself, nil for that
	db      *storage.DB
	store   *mvcc.Store
	members *cluster.Membership
	leases  *lease.Table
	alarms  *cluster.Alarms
	users   *auth.Table
	m       *Machine
	last    uint64 // index of the newest entry made
	events  []string
}

func newLab(t testing.TB) *lab {
	l := &lab{t: t, fs: vfs.NewCrashableMem()}
	l.open()
	t.Cleanup(l.close)
	return l
}

// close ends the lab, if it has not ended yet.
func (l *lab) close() {
	if l.db != nil {
		l.check(l.db.Close())
		l.db = nil
	}
}

func (l *lab) check(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) open() {
	l.t.Helper()
	var err error
	var disk vfs.FS = l.fs
	if l.wrap != nil {
		disk = l.wrap(disk)
	}
	l.db, err = storage.OpenState("state", storage.Options{
		FS: disk, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Fatal: func(err error) {
			if l.wrap == nil { // otherwise a compaction may meet what is wrong there
				l.t.Error(err)
			}
		},
	})
	l.check(err)
	l.store, err = mvcc.Open(l.db)
	l.check(err)
	l.members, err = cluster.Load(l.db)
	l.check(err)
	l.leases, err = lease.Load(l.db)
	l.check(err)
	l.alarms, err = cluster.LoadAlarms(l.db)
	l.check(err)
	l.users, err = auth.Load(l.db)
	l.check(err)
	applied, _ := l.store.Applied()
	chain, err := LoadChain(l.db, applied)
	l.check(err)
	l.m = New(Parts{
		Chain: chain,
		Store: l.store, Members: l.members, Leases: l.leases, Alarms: l.alarms, Accounts: l.users, MaxLearners: 1,
	})
}

// reopen ends the machine and starts it anew; after a crash with what was durable.
func (l *lab) reopen(crash bool) {
	l.t.Helper()
	kept := l.fs
	if crash {
		kept = l.fs.CrashClone(vfs.CrashCloneCfg{})
	}
	l.check(l.db.Close())
	l.fs = kept
	l.open()
}

// entry makes the next entry; its request has the entry's index as id.
func (l *lab) entry(cmd Command, msg proto.Message) *raftpb.Entry {
	l.t.Helper()
	l.last++
	raw, err := proto.Marshal(msg)
	l.check(err)
	return entryAt(l.last, Encode(Header{ID: l.last}, cmd, raw))
}

func entryAt(index uint64, data []byte) *raftpb.Entry {
	return &raftpb.Entry{
		Type: raftpb.EntryNormal.Enum(), Index: proto.Uint64(index), Term: proto.Uint64(3), Data: data,
	}
}

// do applies one request and returns its result.
func (l *lab) do(cmd Command, msg proto.Message) Result {
	l.t.Helper()
	var out []Result
	err := l.m.Apply([]*raftpb.Entry{l.entry(cmd, msg)},
		func(id uint64) bool { return true },
		func(id uint64, r Result) { out = append(out, r) })
	l.check(err)
	if len(out) != 1 || out[0].Index != l.last || out[0].Term != 3 {
		l.t.Fatalf("entry %d has results %+v", l.last, out)
	}
	return out[0]
}

// put puts, where nothing is expected to go wrong.
func (l *lab) put(key, value string) {
	l.t.Helper()
	r := l.do(CommandPut, &etcdserverpb.PutRequest{Key: []byte(key), Value: []byte(value)})
	l.check(r.Err)
}

// text says what the store holds, in brief.
func (l *lab) text() string {
	l.t.Helper()
	v, err := l.store.View(0)
	l.check(err)
	defer func() { l.check(v.Close()) }()
	s := ""
	_, err = v.Range(mvcc.RangeOptions{Key: []byte{0}, End: []byte{0}}, func(kv mvcc.KV) error {
		s += string(kv.Key()) + "=" + string(kv.Value()) + " "
		return nil
	})
	l.check(err)
	return s
}

func request(op proto.Message) *etcdserverpb.RequestOp {
	switch op := op.(type) {
	case *etcdserverpb.RangeRequest:
		return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestRange{RequestRange: op}}
	case *etcdserverpb.PutRequest:
		return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestPut{RequestPut: op}}
	case *etcdserverpb.DeleteRangeRequest:
		return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestDeleteRange{RequestDeleteRange: op}}
	case *etcdserverpb.TxnRequest:
		return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestTxn{RequestTxn: op}}
	default:
		return &etcdserverpb.RequestOp{}
	}
}

// then is a transaction without conditions.
func then(ops ...proto.Message) *etcdserverpb.TxnRequest {
	t := &etcdserverpb.TxnRequest{}
	for _, op := range ops {
		t.Success = append(t.Success, request(op))
	}
	return t
}

func put(key, value string) *etcdserverpb.PutRequest {
	return &etcdserverpb.PutRequest{Key: []byte(key), Value: []byte(value)}
}

func get(key string, rev int64) *etcdserverpb.RangeRequest {
	return &etcdserverpb.RangeRequest{Key: []byte(key), Revision: rev}
}

func del(key, end string) *etcdserverpb.DeleteRangeRequest {
	return &etcdserverpb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)}
}
