package apply

import (
	"bytes"
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/ashlar-kv/ashlar/internal/auth"
)

// The model knows few keys, and between two of those that it names no request and no permission begins or ends: what holds of
// every key in world holds of all keys.
var (
	names = []string{"a", "aa", "ab", "b", "ba", "c"}
	world = func() (out [][]byte) {
		for _, name := range append(names, "\xff\xff") {
			out = append(out, []byte(name), []byte(name+"\x00"))
		}
		return out
	}()
)

// inRange tells whether a range, as requests and permissions write it, has a key.
func inRange(key []byte, from, to []byte) bool {
	switch {
	case len(to) == 0:
		return bytes.Equal(key, from)
	case bytes.Equal(to, []byte{0}):
		return bytes.Compare(key, from) >= 0
	}
	return bytes.Compare(key, from) >= 0 && bytes.Compare(key, to) < 0
}

// model is what one user may do, as a person would find out: key by key.
type model struct{ permissions []*authpb.Permission }

// may tells whether the user may read, or write, every key of a range.
func (m *model) may(write bool, from, to []byte) bool {
	for _, key := range world {
		if inRange(key, from, to) && !m.mayKey(write, key) {
			return false
		}
	}
	return true
}

func (m *model) mayKey(write bool, key []byte) bool {
	for _, p := range m.permissions {
		kind := p.PermType == authpb.READWRITE || p.PermType == authpb.READ && !write || p.PermType == authpb.WRITE && write
		if kind && inRange(key, p.Key, p.RangeEnd) {
			return true
		}
	}
	return false
}

// mayAll tells whether the user may do all that a request names, at any depth, whatever its compares say.
func (m *model) mayAll(msg proto.Message, hung func(lease int64) []string) bool {
	switch r := msg.(type) {
	case *etcdserverpb.RangeRequest:
		return m.may(false, r.Key, r.RangeEnd)
	case *etcdserverpb.PutRequest:
		return m.may(true, r.Key, nil) && (!r.PrevKv || m.may(false, r.Key, nil)) && (r.Lease == 0 || m.mayLease(r.Lease, hung))
	case *etcdserverpb.DeleteRangeRequest:
		return m.may(true, r.Key, r.RangeEnd) && (!r.PrevKv || m.may(false, r.Key, r.RangeEnd))
	case *etcdserverpb.LeaseRevokeRequest:
		return m.mayLease(r.ID, hung)
	case *etcdserverpb.TxnRequest:
		for _, c := range r.Compare {
			if !m.may(false, c.Key, c.RangeEnd) {
				return false
			}
		}
		for _, op := range append(append([]*etcdserverpb.RequestOp(nil), r.Success...), r.Failure...) {
			var inner proto.Message
			switch x := op.Request.(type) {
			case *etcdserverpb.RequestOp_RequestRange:
				inner = x.RequestRange
			case *etcdserverpb.RequestOp_RequestPut:
				inner = x.RequestPut
			case *etcdserverpb.RequestOp_RequestDeleteRange:
				inner = x.RequestDeleteRange
			case *etcdserverpb.RequestOp_RequestTxn:
				inner = x.RequestTxn
			}
			if !m.mayAll(inner, hung) {
				return false
			}
		}
	}
	return true
}

func (m *model) mayLease(id int64, hung func(lease int64) []string) bool {
	for _, key := range hung(id) {
		if !m.may(true, []byte(key), nil) {
			return false
		}
	}
	return true
}

// asked draws requests and permissions of the model's world.
type asked struct{ *rapid.T }

func (a asked) bounds() (key, end []byte) {
	i := rapid.IntRange(0, len(names)-1).Draw(a.T, "key")
	key = []byte(names[i])
	switch rapid.IntRange(0, 3).Draw(a.T, "end") {
	case 0:
		return key, []byte{0}
	case 1:
		if i+1 < len(names) {
			return key, []byte(names[rapid.IntRange(i+1, len(names)-1).Draw(a.T, "to")])
		}
	}
	return key, nil
}

func (a asked) often() bool { return rapid.IntRange(0, 3).Draw(a.T, "often") > 0 }

func (a asked) put() *etcdserverpb.PutRequest {
	key, _ := a.bounds()
	lease := rapid.SampledFrom([]int64{0, 0, 1, 2}).Draw(a.T, "lease")
	return &etcdserverpb.PutRequest{Key: key, PrevKv: !a.often(), Lease: lease}
}

func (a asked) delete() *etcdserverpb.DeleteRangeRequest {
	key, end := a.bounds()
	return &etcdserverpb.DeleteRangeRequest{Key: key, RangeEnd: end, PrevKv: !a.often()}
}

func (a asked) txn(deep int) *etcdserverpb.TxnRequest {
	t := &etcdserverpb.TxnRequest{}
	if !a.often() {
		key, end := a.bounds()
		t.Compare = []*etcdserverpb.Compare{{Key: key, RangeEnd: end, Result: etcdserverpb.Compare_CompareResult(rapid.IntRange(0, 3).Draw(a.T, "result"))}}
	}
	for _, branch := range []*[]*etcdserverpb.RequestOp{&t.Success, &t.Failure} {
		for range rapid.IntRange(0, 2).Draw(a.T, "ops") {
			var op *etcdserverpb.RequestOp
			switch kind := rapid.IntRange(0, 3).Draw(a.T, "op"); {
			case kind == 0:
				op = putOp(a.put())
			case kind == 1:
				op = deleteOp(a.delete())
			case kind == 2 || deep == 0:
				key, end := a.bounds()
				op = rangeOp(string(key), string(end))
			default:
				op = txnOp(a.txn(deep - 1))
			}
			*branch = append(*branch, op)
		}
	}
	return t
}

func (a asked) request() (Command, proto.Message) {
	switch rapid.IntRange(0, 7).Draw(a.T, "request") {
	case 0, 1:
		return CommandPut, a.put()
	case 2:
		return CommandDeleteRange, a.delete()
	case 3:
		return CommandLeaseRevoke, &etcdserverpb.LeaseRevokeRequest{ID: rapid.Int64Range(1, 3).Draw(a.T, "revoked")}
	}
	return CommandTxn, a.txn(3)
}

// TestWholeRequestsAreDecidedAsByASlowModel gives two users random permissions, and random requests to one of them; now and then
// root puts something on a lease, or grants one anew.
func TestWholeRequestsAreDecidedAsByASlowModel(t *testing.T) {
	t.Parallel()
	refused, allowed := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		l := newLab(t)
		defer l.close()
		a, m := asked{rt}, &model{}
		begin(l)
		for i := range rapid.IntRange(0, 6).Draw(rt, "permissions") {
			key, end := a.bounds()
			p := &authpb.Permission{PermType: authpb.Permission_Type(rapid.IntRange(0, 2).Draw(rt, "kind")), Key: key, RangeEnd: end}
			role := []string{"r", "s"}[i%2]
			if r := l.as("root", CommandAuthRoleGrantPermission, &etcdserverpb.AuthRoleGrantPermissionRequest{Name: role, Perm: p}); r.Err != nil {
				rt.Fatal(r.Err)
			}
		}
		for _, name := range []string{"r", "s"} {
			role, _ := l.users.Role(name)
			for _, p := range role.Permissions {
				m.permissions = append(m.permissions, &authpb.Permission{PermType: authpb.Permission_Type(p.Kind), Key: p.Key, RangeEnd: p.End})
			}
		}
		hung := func(id int64) (out []string) {
			keys, err := l.leases.Keys(l.db, id)
			l.check(err)
			for _, key := range keys {
				out = append(out, string(key))
			}
			return out
		}
		for range 15 {
			if !a.often() {
				l.as("root", CommandLeaseGrant, &etcdserverpb.LeaseGrantRequest{ID: rapid.Int64Range(1, 2).Draw(rt, "granted"), TTL: 100})
				l.as("root", CommandPut, a.put())
			}
			cmd, msg := a.request()
			want, before := m.mayAll(msg, hung), l.store.Revision()
			r := l.as("u", cmd, msg)
			if got := !errors.Is(r.Err, auth.ErrPermissionDenied); got != want {
				rt.Fatalf("%v %v: %v, the model says %t; permissions %v, on leases %q %q", cmd, msg, r.Err, want, m.permissions, hung(1), hung(2))
			}
			if !want {
				refused++
				if l.store.Revision() != before {
					rt.Fatalf("%v was refused, and has changed something", msg)
				}
				continue
			}
			allowed++
		}
	})
	if refused < 100 || allowed < 100 {
		t.Errorf("%d requests were refused and %d allowed: the test draws the wrong ones", refused, allowed)
	}
}

// begin switches authentication on, for root and for u with the roles r and s.
func begin(l *lab) {
	for _, x := range []struct {
		c Command
		m proto.Message
	}{
		{CommandAuthUserAdd, &etcdserverpb.AuthUserAddRequest{Name: "root"}},
		{CommandAuthUserGrantRole, &etcdserverpb.AuthUserGrantRoleRequest{User: "root", Role: "root"}},
		{CommandAuthUserAdd, &etcdserverpb.AuthUserAddRequest{Name: "u"}},
		{CommandAuthRoleAdd, &etcdserverpb.AuthRoleAddRequest{Name: "r"}},
		{CommandAuthRoleAdd, &etcdserverpb.AuthRoleAddRequest{Name: "s"}},
		{CommandAuthUserGrantRole, &etcdserverpb.AuthUserGrantRoleRequest{User: "u", Role: "r"}},
		{CommandAuthUserGrantRole, &etcdserverpb.AuthUserGrantRoleRequest{User: "u", Role: "s"}},
		{CommandAuthEnable, &etcdserverpb.AuthEnableRequest{}},
	} {
		if r := l.as("", x.c, x.m); r.Err != nil {
			l.t.Fatal(r.Err)
		}
	}
}
