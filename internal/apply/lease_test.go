package apply

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

func on(id int64, p *etcdserverpb.PutRequest) *etcdserverpb.PutRequest {
	p.Lease = id
	return p
}

func grant(id, ttl int64) *etcdserverpb.LeaseGrantRequest {
	return &etcdserverpb.LeaseGrantRequest{ID: id, TTL: ttl}
}

func revoke(id int64) *etcdserverpb.LeaseRevokeRequest {
	return &etcdserverpb.LeaseRevokeRequest{ID: id}
}

func checkpoint(pairs ...int64) *etcdserverpb.LeaseCheckpointRequest {
	r := &etcdserverpb.LeaseCheckpointRequest{}
	for i := 0; i < len(pairs); i += 2 {
		r.Checkpoints = append(r.Checkpoints, &etcdserverpb.LeaseCheckpoint{ID: pairs[i], Remaining_TTL: pairs[i+1]})
	}
	return r
}

// leaseText says which leases there are, and their keys, as readers see them.
func (l *lab) leaseText() string {
	l.t.Helper()
	s := ""
	for x := range l.leases.All {
		keys, err := l.leases.Keys(l.db, x.ID)
		l.check(err)
		s += fmt.Sprintf("%d:%d/%d%s ", x.ID, x.Remaining, x.TTL, keys)
	}
	return strings.TrimSpace(s)
}

// A key that was taken over from etcd may name a lease that was gone: it hangs on none until it is put when the id was granted anew.
func TestAKeyOfALeaseThatWasGoneHangsOnItOnceItIsPut(t *testing.T) {
	t.Parallel()
	keep := &etcdserverpb.PutRequest{Key: []byte("k"), Value: []byte("2"), IgnoreLease: true}
	type step struct {
		cmd  Command
		msg  proto.Message
		want string
	}
	granted := step{CommandLeaseGrant, grant(5, 10), "5:0/10[]"}
	again := step{CommandPut, on(5, put("k", "3")), "5:0/10[k]"}
	revoked := step{CommandLeaseRevoke, revoke(5), ""}
	for name, steps := range map[string][]step{
		"named":                      {granted, again, again, revoked},
		"kept":                       {granted, {CommandPut, keep, "5:0/10[k]"}, again, revoked},
		"kept while it was gone":     {{CommandPut, keep, ""}, granted, again, revoked},
		"kept twice while gone":      {{CommandPut, keep, ""}, {CommandPut, keep, ""}, granted, again, revoked},
		"in a transaction":           {granted, {CommandTxn, &etcdserverpb.TxnRequest{Success: []*etcdserverpb.RequestOp{putOp(on(5, put("k", "4")))}}, "5:0/10[k]"}, revoked},
		"of a lease that is revoked": {granted, revoked, {CommandPut, put("k", "5"), ""}, granted, revoked, {CommandDeleteRange, del("k", ""), ""}},
	} {
		for how, c := range map[string]struct {
			group   int
			restart bool
		}{
			"one by one":    {1, false},
			"with restarts": {1, true},
			"in pairs":      {2, false},
			"in one group":  {len(steps), false},
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				t.Parallel()
				l := newLab(t)
				w := l.store.NewWriter()
				w.Begin()
				_, _, err := w.Put([]byte("k"), []byte("1"), 5)
				l.check(err)
				w.End()
				w.SetApplied(1, 3)
				l.check(w.Commit())
				l.last = 1
				l.reopen(false)
				for group := range slices.Chunk(steps, c.group) {
					var entries []*raftpb.Entry
					for _, s := range group {
						entries = append(entries, l.entry(s.cmd, s.msg))
					}
					l.applyAll(entries)
					last := group[len(group)-1]
					if got := l.leaseText(); got != last.want {
						t.Errorf("after %v: the leases are %q, want %q", last.msg, got, last.want)
					}
					if c.restart {
						l.reopen(false)
					}
				}
				if got := l.text(); got != "" {
					t.Errorf("%q is left", got)
				}
			})
		}
	}
}

func TestLeasesAndTheirKeys(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	keep := func(key string) *etcdserverpb.PutRequest {
		return &etcdserverpb.PutRequest{Key: []byte(key), Value: []byte("3"), IgnoreLease: true}
	}
	for _, s := range []struct {
		name string
		cmd  Command
		m    proto.Message
		rev  int64
		err  error
		want string
	}{
		{"a grant takes no revision", CommandLeaseGrant, grant(1, 1000), 1, nil, "1:0/1000[]"},
		{"another", CommandLeaseGrant, grant(-2, 0), 1, nil, "-2:0/2[] 1:0/1000[]"},
		{"the same once more", CommandLeaseGrant, grant(1, 5), 1, lease.ErrExists, "-2:0/2[] 1:0/1000[]"},
		{"one without an id", CommandLeaseGrant, grant(0, 5), 1, lease.ErrNotFound, "-2:0/2[] 1:0/1000[]"},
		{"one that is too long", CommandLeaseGrant, grant(9, math.MaxInt64), 1, lease.ErrTTLTooLarge, "-2:0/2[] 1:0/1000[]"},
		{"a put on a lease", CommandPut, on(1, put("a", "1")), 2, nil, "-2:0/2[] 1:0/1000[a]"},
		{"a put on none", CommandPut, put("n", "1"), 3, nil, "-2:0/2[] 1:0/1000[a]"},
		{"a put on one that is not there", CommandPut, on(3, put("a", "2")), 3, lease.ErrNotFound, "-2:0/2[] 1:0/1000[a]"},
		{"a second key", CommandPut, on(1, put("b", "1")), 4, nil, "-2:0/2[] 1:0/1000[a b]"},
		{"the same lease again", CommandPut, on(1, put("a", "2")), 5, nil, "-2:0/2[] 1:0/1000[a b]"},
		{"a put that keeps the lease", CommandPut, keep("a"), 6, nil, "-2:0/2[] 1:0/1000[a b]"},
		{"another lease", CommandPut, on(-2, put("a", "3")), 7, nil, "-2:0/2[a] 1:0/1000[b]"},
		{"no lease any more", CommandPut, put("a", "4"), 8, nil, "-2:0/2[] 1:0/1000[b]"},
		{"another lease and the old value", CommandPut, on(-2, keepValue("b")), 9, nil, "-2:0/2[b] 1:0/1000[]"},
		{"a delete", CommandDeleteRange, del("b", ""), 10, nil, "-2:0/2[] 1:0/1000[]"},
		{"a transaction with many", CommandTxn, then(on(1, put("x", "")), on(-2, put("y", "")), on(1, put("n", ""))), 11, nil,
			"-2:0/2[y] 1:0/1000[n x]"},
		{"a transaction that moves, deletes and puts", CommandTxn, then(on(-2, put("x", "2")), del("n", ""), on(1, put("z", ""))), 12, nil,
			"-2:0/2[x y] 1:0/1000[z]"},
		{"one that deletes a key and puts it again", CommandTxn, then(del("x", "\x00"), on(-2, put("x", "3")), on(-2, put("z", "1"))), 13, nil,
			"-2:0/2[x z] 1:0/1000[]"},
		{"one that names a lease which is not there", CommandTxn, then(on(1, put("q", "")), on(3, put("r", ""))), 13, lease.ErrNotFound,
			"-2:0/2[x z] 1:0/1000[]"},
		{"one that would name it in the branch not taken", CommandTxn,
			&etcdserverpb.TxnRequest{Success: then(put("a", "5")).GetSuccess(), Failure: then(on(3, put("r", ""))).GetSuccess()}, 14, nil,
			"-2:0/2[x z] 1:0/1000[]"},
		{"one that names it in a nested one", CommandTxn, then(put("a", "6"), then(on(3, put("r", "")))), 14, lease.ErrNotFound,
			"-2:0/2[x z] 1:0/1000[]"},
		{"checkpoints", CommandLeaseCheckpoint, checkpoint(9, 7, 1, 400, -2, 1), 14, nil, "-2:1/2[x z] 1:400/1000[]"},
		{"a full renewal", CommandLeaseCheckpoint, checkpoint(1, 0), 14, nil, "-2:1/2[x z] 1:0/1000[]"},
		{"a revoke without keys", CommandLeaseRevoke, revoke(1), 14, nil, "-2:1/2[x z]"},
		{"the same once more", CommandLeaseRevoke, revoke(1), 14, lease.ErrNotFound, "-2:1/2[x z]"},
		{"a revoke with keys", CommandLeaseRevoke, revoke(-2), 15, nil, ""},
		{"a grant of the same id", CommandLeaseGrant, grant(-2, 9), 15, nil, "-2:0/9[]"},
	} {
		r := l.do(s.cmd, s.m)
		if !errors.Is(r.Err, s.err) || r.Revision != s.rev {
			t.Errorf("%s: revision %d, %v; want %d, %v", s.name, r.Revision, r.Err, s.rev, s.err)
		}
		if got := l.leaseText(); got != s.want {
			t.Errorf("%s: the leases are %s, want %s", s.name, got, s.want)
		}
	}
	if got := l.text(); got != "a=5 " {
		t.Errorf("left: %s", got)
	}
}

func TestAGrantIsAnsweredWithWhatIsStored(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, c := range []struct{ id, ttl, want int64 }{{7, 60, 60}, {-7, 1, 2}, {math.MinInt64, -5, 2}} {
		r := l.do(CommandLeaseGrant, grant(c.id, c.ttl))
		l.check(r.Err)
		var a etcdserverpb.LeaseGrantResponse
		l.check(proto.Unmarshal(r.Body, &a))
		if a.GetID() != c.id || a.GetTTL() != c.want || a.GetHeader() != nil || a.GetError() != "" {
			t.Errorf("%+v is answered with %v", c, &a)
		}
	}
}

// What is granted, hung on a lease and revoked in one group of entries decides as if each entry stood alone.
func TestLeasesWithinOneGroup(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.m = New(Parts{Store: l.store, Members: l.members, Leases: l.leases, Alarms: l.alarms, Accounts: l.users, Published: func(events []mvcc.Event) {
		for _, e := range events {
			l.events = append(l.events, fmt.Sprintf("%d/%d %d %s %d<-%d", e.Rev.Main, e.Rev.Sub, e.Kind, e.Key, e.Lease, e.PrevLease))
		}
	}})
	entries := []*raftpb.Entry{
		l.entry(CommandPut, on(1, put("a", ""))),
		l.entry(CommandLeaseGrant, grant(1, 10)),
		l.entry(CommandPut, on(1, put("c", ""))),
		l.entry(CommandPut, on(1, put("b", ""))),
		l.entry(CommandPut, on(1, put("a", ""))),
		l.entry(CommandPut, put("b", "")),
		l.entry(CommandLeaseRevoke, revoke(1)),
		l.entry(CommandPut, on(1, put("d", ""))),
		l.entry(CommandLeaseGrant, grant(1, 20)),
		l.entry(CommandPut, on(1, put("a", ""))),
	}
	results := map[uint64]string{}
	l.apply(entries, true, results)
	refused := []uint64{}
	for id, r := range results {
		if strings.Contains(r, "not found") {
			refused = append(refused, id)
		}
	}
	slices.Sort(refused)
	if !slices.Equal(refused, []uint64{1, 8}) {
		t.Errorf("refused: %v", refused)
	}
	if got := l.leaseText(); got != "1:0/20[a]" {
		t.Errorf("the leases are %s", got)
	}
	want := []string{
		"2/0 0 c 1<-0", "3/0 0 b 1<-0", "4/0 0 a 1<-0", "5/0 0 b 0<-1", "6/0 1 a 0<-1", "6/1 1 c 0<-1", "7/0 0 a 1<-0",
	}
	if !slices.Equal(l.events, want) {
		t.Errorf("the events are\n%s", strings.Join(l.events, "\n"))
	}
}

// attachments are those that the live keys ask for.
func (l *lab) wantedKeys() map[int64][]string {
	l.t.Helper()
	v, err := l.store.View(0)
	l.check(err)
	defer func() { l.check(v.Close()) }()
	out := map[int64][]string{}
	_, err = v.Range(mvcc.RangeOptions{Key: []byte{0}, End: []byte{0}}, func(kv mvcc.KV) error {
		if kv.Lease() != 0 {
			out[kv.Lease()] = append(out[kv.Lease()], string(kv.Key()))
		}
		return nil
	})
	l.check(err)
	return out
}

// checkAttachments checks that each live key hangs on the lease that it names, and nothing else on any.
func (l *lab) checkAttachments() {
	l.t.Helper()
	want := l.wantedKeys()
	for x := range l.leases.All {
		keys, err := l.leases.Keys(l.db, x.ID)
		l.check(err)
		got := []string{}
		for _, k := range keys {
			got = append(got, string(k))
		}
		if !slices.Equal(got, want[x.ID]) || l.leases.KeyCount(x.ID) != int64(len(got)) {
			l.t.Fatalf("on lease %d hang %q (%d), live keys that name it: %q", x.ID, got, l.leases.KeyCount(x.ID), want[x.ID])
		}
		delete(want, x.ID)
	}
	if len(want) > 0 {
		l.t.Fatalf("keys name leases that are not there: %v", slices.Sorted(maps.Keys(want)))
	}
}
