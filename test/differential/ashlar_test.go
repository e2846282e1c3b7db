package differential

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/auth"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// ashlar is the state machine of a member of Ashlar on a state in memory.
type ashlar struct {
	t       testing.TB
	fs      vfs.FS
	db      *storage.DB
	store   *mvcc.Store
	members *cluster.Membership
	leases  *lease.Table
	alarms  *cluster.Alarms
	users   *auth.Table
	machine *apply.Machine
}

func newAshlar(t testing.TB) *ashlar { return openAshlar(t, vfs.NewMem(), nil) }

// openAshlar opens the state in fs; fill, when not nil, writes it first.
func openAshlar(t testing.TB, fs vfs.FS, fill func(*storage.DB) error) *ashlar {
	a := &ashlar{t: t, fs: fs}
	var err error
	check := func() {
		if err != nil {
			t.Fatal(err)
		}
	}
	a.db, err = storage.OpenState("state", storage.Options{
		FS: fs, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Fatal: func(err error) { t.Error(err) },
	})
	check()
	if fill != nil {
		err = fill(a.db)
		check()
	}
	a.store, err = mvcc.Open(a.db)
	check()
	a.members, err = cluster.Load(a.db)
	check()
	a.leases, err = lease.Load(a.db)
	check()
	a.alarms, err = cluster.LoadAlarms(a.db)
	check()
	a.users, err = auth.Load(a.db)
	check()
	a.machine = apply.New(apply.Parts{
		Store: a.store, Members: a.members, Leases: a.leases, Alarms: a.alarms, Accounts: a.users, MaxLearners: maxLearners,
	})
	return a
}

func (a *ashlar) close() {
	if err := a.db.Close(); err != nil {
		a.t.Error(err)
	}
}

// apply applies normal entries as one group, or as several if the machine wants it so, and returns the results by id.
func (a *ashlar) apply(entries []*raftpb.Entry, wanted func(id uint64) bool) (map[uint64]apply.Result, error) {
	results := make(map[uint64]apply.Result)
	err := a.machine.Apply(entries, wanted, func(id uint64, r apply.Result) { results[id] = r })
	return results, err
}

// confChange applies a configuration entry. What raft would make of it is of no interest here.
func (a *ashlar) confChange(e *raftpb.Entry) (apply.Result, error) {
	cc, err := a.machine.CheckConfChange(e)
	if err != nil {
		return apply.Result{}, err
	}
	var result apply.Result
	err = a.machine.FinishConfChange(e, cc, &raftpb.ConfState{Voters: []uint64{memberSelf}},
		func(_ uint64, r apply.Result) { result = r })
	return result, err
}

// read answers a range from the state.
func (a *ashlar) read(req *etcdserverpb.RangeRequest) (outcome, error) {
	raw, err := proto.Marshal(req)
	if err != nil {
		return outcome{}, err
	}
	r, err := apply.ParseRange(raw)
	if err != nil {
		return outcome{}, err
	}
	return a.view(func(v *mvcc.View) ([]byte, int64, error) { return apply.AppendRange(nil, v, &r, math.MaxInt32, nil) },
		&etcdserverpb.RangeResponse{})
}

// readTxn answers a read-only transaction from the state.
func (a *ashlar) readTxn(req *etcdserverpb.TxnRequest) (outcome, error) {
	raw, err := proto.Marshal(req)
	if err != nil {
		return outcome{}, err
	}
	t, err := apply.ParseTxn(raw)
	if err != nil {
		return outcome{}, err
	}
	return a.view(func(v *mvcc.View) ([]byte, int64, error) {
		return apply.ReadTxn(context.Background(), v, &t, new(apply.Counts), nil)
	}, &etcdserverpb.TxnResponse{})
}

// view calls answer with the present state; resp is of the type that it answers.
func (a *ashlar) view(answer func(v *mvcc.View) ([]byte, int64, error), resp proto.Message) (outcome, error) {
	v, err := a.store.View(0)
	if err != nil {
		return outcome{}, err
	}
	body, rev, refusal := answer(v)
	if err := v.Close(); err != nil {
		return outcome{}, err
	}
	if refusal != nil {
		return outcome{err: refusal}, nil
	}
	if err := proto.Unmarshal(body, resp); err != nil {
		return outcome{}, fmt.Errorf("decode what Ashlar answers: %w", err)
	}
	return outcome{resp: resp, rev: rev}, nil
}
