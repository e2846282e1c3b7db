package apply

import (
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/ashlar-kv/ashlar/internal/auth"
	"github.com/ashlar-kv/ashlar/internal/cluster"
)

// as applies a command that a user asks for, by the present auth revision.
func (l *lab) as(user string, c Command, m proto.Message) Result {
	l.t.Helper()
	return l.header(Header{Username: user, AuthRevision: l.users.Revision()}, c, m)
}

// header applies a command with a header.
func (l *lab) header(h Header, c Command, m proto.Message) (r Result) {
	l.t.Helper()
	raw, err := proto.Marshal(m)
	l.check(err)
	l.last++
	h.ID = l.last
	l.check(l.m.Apply([]*raftpb.Entry{entryAt(l.last, Encode(h, c, raw))}, func(uint64) bool { return true }, func(_ uint64, x Result) { r = x }))
	return r
}

// secured is a lab with authentication on: the user u may read r/, write w/, and both in b/; the key sec hangs on lease 9
// and w/1 on lease 7.
func secured(t testing.TB) *lab {
	l := newLab(t)
	grant := func(kind authpb.Permission_Type, key, end string) {
		l.as("", CommandAuthRoleGrantPermission, &etcdserverpb.AuthRoleGrantPermissionRequest{
			Name: "role", Perm: &authpb.Permission{PermType: kind, Key: []byte(key), RangeEnd: []byte(end)},
		})
	}
	for _, user := range []string{auth.Root, "u"} {
		l.as("", CommandAuthUserAdd, &etcdserverpb.AuthUserAddRequest{Name: user})
	}
	l.as("", CommandAuthUserGrantRole, &etcdserverpb.AuthUserGrantRoleRequest{User: auth.Root, Role: auth.Root})
	l.as("", CommandAuthRoleAdd, &etcdserverpb.AuthRoleAddRequest{Name: "role"})
	grant(authpb.READ, "r/", "r0")
	grant(authpb.WRITE, "w/", "w0")
	grant(authpb.READWRITE, "b/", "b0")
	l.as("", CommandAuthUserGrantRole, &etcdserverpb.AuthUserGrantRoleRequest{User: "u", Role: "role"})
	for id, key := range map[int64]string{9: "sec", 7: "w/1"} {
		l.as("", CommandLeaseGrant, &etcdserverpb.LeaseGrantRequest{ID: id, TTL: 100})
		l.as("", CommandPut, &etcdserverpb.PutRequest{Key: []byte(key), Lease: id})
	}
	if r := l.as("", CommandAuthEnable, &etcdserverpb.AuthEnableRequest{}); r.Err != nil {
		t.Fatal(r.Err)
	}
	return l
}

func putOp(p *etcdserverpb.PutRequest) *etcdserverpb.RequestOp {
	return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestPut{RequestPut: p}}
}

func deleteOp(d *etcdserverpb.DeleteRangeRequest) *etcdserverpb.RequestOp {
	return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestDeleteRange{RequestDeleteRange: d}}
}

func rangeOp(key, end string) *etcdserverpb.RequestOp {
	return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestRange{
		RequestRange: &etcdserverpb.RangeRequest{Key: []byte(key), RangeEnd: []byte(end)}}}
}

func txnOp(x *etcdserverpb.TxnRequest) *etcdserverpb.RequestOp {
	return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestTxn{RequestTxn: x}}
}

// TestAnEntryIsHeldToItsUser has the ways around the permissions of etcd that were found in 2026 among others.
func TestAnEntryIsHeldToItsUser(t *testing.T) {
	t.Parallel()
	l := secured(t)
	put := func(key string) *etcdserverpb.PutRequest { return &etcdserverpb.PutRequest{Key: []byte(key)} }
	on := func(key string, lease int64) *etcdserverpb.PutRequest {
		return &etcdserverpb.PutRequest{Key: []byte(key), Lease: lease}
	}
	prev := func(key string) *etcdserverpb.PutRequest {
		return &etcdserverpb.PutRequest{Key: []byte(key), PrevKv: true}
	}
	del := func(key, end string, prev bool) *etcdserverpb.DeleteRangeRequest {
		return &etcdserverpb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end), PrevKv: prev}
	}
	success := func(ops ...*etcdserverpb.RequestOp) *etcdserverpb.TxnRequest {
		return &etcdserverpb.TxnRequest{Success: ops}
	}
	failure := func(ops ...*etcdserverpb.RequestOp) *etcdserverpb.TxnRequest {
		return &etcdserverpb.TxnRequest{Failure: ops}
	}
	compare := func(key, end string) *etcdserverpb.TxnRequest {
		return &etcdserverpb.TxnRequest{Compare: []*etcdserverpb.Compare{{Key: []byte(key), RangeEnd: []byte(end)}}, Success: []*etcdserverpb.RequestOp{putOp(put("w/"))}}
	}
	for _, c := range []struct {
		says string
		cmd  Command
		m    proto.Message
		want error
	}{
		{"a put", CommandPut, put("w/1"), nil},
		{"a put elsewhere", CommandPut, put("r/1"), auth.ErrPermissionDenied},
		{"a put that reads what was there", CommandPut, prev("b/1"), nil},
		{"a put that reads what may not be read", CommandPut, prev("w/1"), auth.ErrPermissionDenied},
		{"a put on a lease of one's own keys", CommandPut, on("w/2", 7), nil},
		{"a put on a lease of other keys", CommandPut, on("w/2", 9), auth.ErrPermissionDenied},
		{"a deletion", CommandDeleteRange, del("w/", "w/5", false), nil},
		{"a deletion that reads", CommandDeleteRange, del("w/", "w/5", true), auth.ErrPermissionDenied},
		{"a deletion beyond", CommandDeleteRange, del("w/", "x", false), auth.ErrPermissionDenied},
		{"a deletion from a key on", CommandDeleteRange, del("w/", "\x00", false), auth.ErrPermissionDenied},
		{"a transaction that puts in the branch not taken", CommandTxn, failure(putOp(put("r/1"))), auth.ErrPermissionDenied},
		{"a nested one", CommandTxn, success(putOp(put("w/1")), txnOp(success(putOp(put("r/1"))))), auth.ErrPermissionDenied},
		{"one nested in the branch not taken", CommandTxn, success(txnOp(failure(txnOp(success(putOp(put("r/1"))))))), auth.ErrPermissionDenied},
		{"a nested deletion", CommandTxn, success(txnOp(success(deleteOp(del("a", "z", false))))), auth.ErrPermissionDenied},
		{"a nested range", CommandTxn, success(putOp(put("w/1")), txnOp(success(rangeOp("sec", "")))), auth.ErrPermissionDenied},
		{"a nested compare", CommandTxn, success(txnOp(compare("sec", ""))), auth.ErrPermissionDenied},
		{"a compare", CommandTxn, compare("sec", ""), auth.ErrPermissionDenied},
		{"a compare of a range", CommandTxn, compare("r/", "\x00"), auth.ErrPermissionDenied},
		{"a compare that is allowed", CommandTxn, compare("r/", "r0"), nil},
		{"prev_kv in a transaction", CommandTxn, success(putOp(prev("w/1"))), auth.ErrPermissionDenied},
		{"prev_kv of a deletion, nested", CommandTxn, success(txnOp(success(deleteOp(del("w/", "w0", true))))), auth.ErrPermissionDenied},
		{"a lease of other keys in a transaction", CommandTxn, success(putOp(on("w/2", 9))), auth.ErrPermissionDenied},
		{"a lease of other keys, nested", CommandTxn, success(txnOp(failure(putOp(on("w/2", 9))))), auth.ErrPermissionDenied},
		{"all that is allowed", CommandTxn, success(putOp(prev("b/2")), rangeOp("r/1", ""), txnOp(compare("b/", "b0"))), nil},
		{"to revoke a lease of other keys", CommandLeaseRevoke, &etcdserverpb.LeaseRevokeRequest{ID: 9}, auth.ErrPermissionDenied},
		{"to add a user", CommandAuthUserAdd, &etcdserverpb.AuthUserAddRequest{Name: "v"}, auth.ErrPermissionDenied},
		{"to switch authentication off", CommandAuthDisable, &etcdserverpb.AuthDisableRequest{}, auth.ErrPermissionDenied},
		// As in etcd, what is not written by a user's leave is not checked again here.
		{"a compaction", CommandCompaction, &etcdserverpb.CompactionRequest{Revision: 1}, nil},
		{"an alarm", CommandAlarm, &etcdserverpb.AlarmRequest{Action: etcdserverpb.AlarmRequest_ACTIVATE, MemberID: 5, Alarm: 7}, nil},
	} {
		before := l.store.Revision()
		if r := l.as("u", c.cmd, c.m); !errors.Is(r.Err, c.want) {
			t.Errorf("%s: %v, want %v", c.says, r.Err, c.want)
		}
		if c.want != nil && l.store.Revision() != before {
			t.Errorf("%s: something was written", c.says)
		}
	}
	for says, c := range map[string]struct {
		h    Header
		want error
	}{
		"nobody":                       {Header{}, auth.ErrUserEmpty},
		"an old auth revision":         {Header{Username: "u", AuthRevision: l.users.Revision() - 1}, auth.ErrOldRevision},
		"root with an old one":         {Header{Username: auth.Root, AuthRevision: 1}, auth.ErrOldRevision},
		"a user that is not there":     {Header{Username: "x", AuthRevision: l.users.Revision()}, auth.ErrPermissionDenied},
		"an auth revision to come":     {Header{Username: "u", AuthRevision: 1 << 40}, nil},
		"root with the newest of them": {Header{Username: auth.Root, AuthRevision: l.users.Revision()}, nil},
	} {
		if r := l.header(c.h, CommandPut, put("w/1")); !errors.Is(r.Err, c.want) {
			t.Errorf("%s: %v, want %v", says, r.Err, c.want)
		}
	}
	if r := l.header(Header{Username: auth.Root, AuthRevision: 1}, CommandLeaseRevoke, &etcdserverpb.LeaseRevokeRequest{ID: 9}); r.Err != nil {
		t.Errorf("a member ends a lease with an old auth revision: %v", r.Err)
	}
}

func TestAnAlarmRefusesBeforePermissionsDo(t *testing.T) {
	t.Parallel()
	l := secured(t)
	l.as("", CommandAlarm, &etcdserverpb.AlarmRequest{Action: etcdserverpb.AlarmRequest_ACTIVATE, Alarm: etcdserverpb.AlarmType(cluster.AlarmNoSpace)})
	if r := l.as("", CommandPut, &etcdserverpb.PutRequest{Key: []byte("x")}); !errors.Is(r.Err, ErrNoSpace) {
		t.Errorf("got %v", r.Err)
	}
}

// touched is one range of keys that a request touches.
type touched struct {
	key, end string
	write    bool
}

// flat lists all that a transaction touches, and makes it, at once.
func flat(t *rapid.T, depth int, list *[]touched) *etcdserverpb.TxnRequest {
	key := func(l string) string {
		return rapid.SampledFrom([]string{"r/1", "r/2", "w/1", "w/2", "b/1", "b/2", "sec"}).Draw(t, l)
	}
	end := func(l string) string { return rapid.SampledFrom([]string{"", "", "r0", "w0", "b0", "\x00"}).Draw(t, l) }
	x := &etcdserverpb.TxnRequest{}
	for range rapid.IntRange(0, 1).Draw(t, "compares") {
		k, e := key("compared"), end("to")
		x.Compare = append(x.Compare, &etcdserverpb.Compare{Key: []byte(k), RangeEnd: []byte(e)})
		*list = append(*list, touched{k, e, false})
	}
	for _, branch := range []*[]*etcdserverpb.RequestOp{&x.Success, &x.Failure} {
		for range rapid.IntRange(0, 2).Draw(t, "operations") {
			k, e, prev := key("key"), end("end"), rapid.Bool().Draw(t, "prev_kv")
			switch rapid.IntRange(0, 3).Draw(t, "operation") {
			case 0:
				*branch = append(*branch, rangeOp(k, e))
				*list = append(*list, touched{k, e, false})
			case 1:
				lease := rapid.SampledFrom([]int64{0, 7, 9, 11}).Draw(t, "lease")
				*branch = append(*branch, putOp(&etcdserverpb.PutRequest{Key: []byte(k), PrevKv: prev, Lease: lease}))
				*list = append(*list, touched{k, "", true})
				if on := map[int64]string{7: "w/1", 9: "sec"}[lease]; on != "" {
					*list = append(*list, touched{on, "", true})
				}
				if prev {
					*list = append(*list, touched{k, "", false})
				}
			case 2:
				*branch = append(*branch, deleteOp(&etcdserverpb.DeleteRangeRequest{Key: []byte(k), RangeEnd: []byte(e), PrevKv: prev}))
				*list = append(*list, touched{k, e, true})
				if prev {
					*list = append(*list, touched{k, e, false})
				}
			default:
				if depth > 0 {
					*branch = append(*branch, txnOp(flat(t, depth-1, list)))
				}
			}
		}
	}
	return x
}

func TestATransactionIsPermittedWhenAllItTouchesIs(t *testing.T) {
	t.Parallel()
	l := secured(t)
	j := l.users.Judge(auth.Subject{User: "u", Revision: l.users.Revision()})
	keys := func(id int64, from []byte) ([]byte, bool, error) { return l.leases.First(l.db, id, from) }
	rapid.Check(t, func(rt *rapid.T) {
		var list []touched
		x := flat(rt, 3, &list)
		raw, err := proto.Marshal(x)
		if err != nil {
			rt.Fatal(err)
		}
		parsed, err := ParseTxn(raw)
		if err != nil {
			rt.Fatal(err)
		}
		var want error
		for _, a := range list {
			ask := j.Read
			if a.write {
				ask = j.Write
			}
			if err := ask([]byte(a.key), []byte(a.end)); err != nil {
				want = err
			}
		}
		if got := PermitTxn(&j, &parsed, keys); !errors.Is(got, want) {
			rt.Fatalf("got %v, want %v; it touches %s", got, want, fmt.Sprint(list))
		}
	})
}

func TestALeaseOfManyKeysCostsNoMoreThanTheRangesOfItsUser(t *testing.T) {
	t.Parallel()
	l := secured(t)
	for i := range 500 {
		for _, key := range []string{"w/%03d", "b/%03d"} {
			l.check(l.as("u", CommandPut, &etcdserverpb.PutRequest{Key: fmt.Appendf(nil, key, i), Lease: 7}).Err)
		}
	}
	j := l.users.Judge(auth.Subject{User: "u", Revision: l.users.Revision()})
	searches := 0
	keys := func(id int64, from []byte) ([]byte, bool, error) {
		searches++
		return l.leases.First(l.db, id, from)
	}
	if err := PermitLeaseWrite(&j, 7, keys); err != nil || searches != 3 {
		t.Errorf("to write: %v, after %d searches; want one for each of two ranges, and one behind them", err, searches)
	}
	searches = 0
	if err := PermitLeaseRead(&j, 7, keys); !errors.Is(err, auth.ErrPermissionDenied) || searches != 2 {
		t.Errorf("to read: %v, after %d searches", err, searches)
	}
}
