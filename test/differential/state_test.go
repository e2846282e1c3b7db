package differential

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/storage/schema"

	"github.com/ashlar-kv/ashlar/internal/cluster"
)

// state is what a machine holds, line by line, written alike for both.
type state []string

func (s *state) add(format string, args ...any) { *s = append(*s, fmt.Sprintf(format, args...)) }

// differences returns the lines that only one of two states has.
func (s state) differences(other state) string {
	var b strings.Builder
	for _, line := range s {
		if !slices.Contains(other, line) {
			fmt.Fprintf(&b, "\n  etcd:   %s", line)
		}
	}
	for _, line := range other {
		if !slices.Contains(s, line) {
			fmt.Fprintf(&b, "\n  ashlar: %s", line)
		}
	}
	return b.String()
}

// addMember and the others below fix how each thing is written.
func (s *state) addMember(id uint64, name string, peers, clients []string, learner bool) {
	s.add("member %x %q peers %q clients %q learner %t", id, name, peers, clients, learner)
}

func (s *state) addLease(id, ttl, remaining int64, keys []string) {
	s.add("lease %d ttl %d remaining %d keys %q", id, ttl, remaining, keys)
}

func (s *state) addUser(name string, hash []byte, noPassword bool, roles []string) {
	s.add("user %q hash %q without password %t roles %q", name, hash, noPassword, roles)
}

func (s *state) addHash(asked int64, hash uint32, compact, rev int64, err error) {
	if err != nil {
		s.add("HashKV(%d): %s", asked, sharedText(err))
		return
	}
	s.add("HashKV(%d) %08x at %d, compact revision %d", asked, hash, rev, compact)
}

// state returns what etcd holds, with the hashes at the revisions asked for.
func (e *etcd) state(hashes []int64) (s state) {
	s.add("revision %d, compact revision %d", e.kv.Rev(), e.kv.FirstRev())
	for _, rev := range hashes {
		h, _, err := e.kv.HashStorage().HashByRev(rev)
		s.addHash(rev, h.Hash, h.CompactRevision, h.Revision, err)
	}
	tx := e.be.ReadTx()
	tx.RLock()
	leases := schema.MustUnsafeGetAllLeases(tx)
	tx.RUnlock()
	for _, l := range leases {
		var keys []string
		if x := e.lessor.Lookup(leaseID(l.ID)); x != nil {
			keys = x.Keys()
			sort.Strings(keys)
		}
		s.addLease(l.ID, l.TTL, l.RemainingTTL, keys)
	}
	s.add("leases in memory %d", len(e.lessor.Leases()))
	for _, a := range e.alarms.Get(etcdserverpb.AlarmType_NONE) {
		s.add("alarm %d of %x", int32(a.Alarm), a.MemberID)
	}
	e.membersState(&s)
	e.authState(&s)
	return s
}

func (e *etcd) membersState(s *state) {
	for _, m := range e.members.Members() {
		s.addMember(uint64(m.ID), m.Name, m.PeerURLs, m.ClientURLs, m.IsLearner)
	}
	var b membership.MembershipBackend = schema.NewMembershipBackend(nil, e.be)
	stored, removed := b.MustReadMembersFromBackend()
	s.add("members stored %d", len(stored))
	for id := range removed {
		s.add("removed %x", uint64(id))
	}
	if v := e.members.Version(); v != nil {
		s.add("cluster version %s", v)
	}
	if d := e.members.DowngradeInfo(); d.Enabled {
		s.add("downgrade to %q", d.TargetVersion)
	}
}

func (e *etcd) authState(s *state) {
	s.add("auth enabled %t, revision %d", e.auth.IsAuthEnabled(), e.auth.Revision())
	for _, u := range e.authBE.GetAllUsers() {
		s.addUser(string(u.Name), u.Password, u.GetOptions().GetNoPassword(), u.Roles)
	}
	for _, r := range e.authBE.GetAllRoles() {
		s.add("role %q", r.Name)
		for i, p := range r.KeyPermission {
			s.addPermission(r.Name, i, p)
		}
	}
}

func (s *state) addPermission(role []byte, i int, p *authpb.Permission) {
	s.add("permission %d of %q: %s %q %q", i, role, p.GetPermType(), p.GetKey(), p.GetRangeEnd())
}

// state is that of etcd.state.
func (a *ashlar) state(hashes []int64, removable []uint64) (s state, err error) {
	s.add("revision %d, compact revision %d", a.store.Revision(), a.store.CompactRevision())
	for _, rev := range hashes {
		h, compact, at, err := a.store.HashKV(context.Background(), rev)
		s.addHash(rev, h, compact, at, err)
	}
	list := a.leases.List()
	for _, l := range list {
		keys, err := a.leases.Keys(a.db, l.ID)
		if err != nil {
			return nil, err
		}
		var names []string
		for _, k := range keys {
			names = append(names, string(k))
		}
		s.addLease(l.ID, l.TTL, l.Remaining, names)
	}
	s.add("leases in memory %d", a.leases.Len())
	for _, x := range a.alarms.List() {
		s.add("alarm %d of %x", int32(x.Type), uint64(x.Member))
	}
	a.membersState(&s, removable)
	a.authState(&s)
	return s, nil
}

func (a *ashlar) membersState(s *state, removable []uint64) {
	members := a.members.Members()
	for _, m := range members {
		s.addMember(uint64(m.ID), m.Name, m.PeerURLs, m.ClientURLs, m.IsLearner)
	}
	s.add("members stored %d", len(members))
	for _, id := range removable {
		if a.members.IsRemoved(cluster.ID(id)) {
			s.add("removed %x", id)
		}
	}
	if v := a.members.Version(); v != "" {
		s.add("cluster version %s", v)
	}
	if d := a.members.Downgrade(); d.Enabled {
		s.add("downgrade to %q", d.TargetVersion)
	}
}

func (a *ashlar) authState(s *state) {
	s.add("auth enabled %t, revision %d", a.users.Enabled(), a.users.Revision())
	for _, name := range a.users.Users() {
		u, _ := a.users.User(name)
		s.addUser(u.Name, u.Hash, u.NoPassword, u.Roles)
	}
	for _, name := range a.users.Roles() {
		r, _ := a.users.Role(name)
		s.add("role %q", name)
		for i, p := range r.Permissions {
			s.addPermission([]byte(name), i, &authpb.Permission{
				PermType: authpb.Permission_Type(p.Kind), Key: p.Key, RangeEnd: p.End,
			})
		}
	}
}
