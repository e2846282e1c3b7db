package apply

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/ashlar-kv/ashlar/internal/lease"
)

// leaseModel is what leases must be, in the simplest form.
type leaseModel struct {
	leases map[int64]lease.Lease
	keys   map[string]int64 // the lease of each live key, 0 for none
	rev    int64
}

func (m *leaseModel) grant(id, ttl int64) error {
	if _, ok := m.leases[id]; ok {
		return lease.ErrExists
	}
	m.leases[id] = lease.Lease{ID: id, TTL: max(2, ttl)}
	return nil
}

func (m *leaseModel) revoke(id int64) error {
	if _, ok := m.leases[id]; !ok {
		return lease.ErrNotFound
	}
	delete(m.leases, id)
	m.erase(func(key string) bool { return m.keys[key] == id })
	return nil
}

func (m *leaseModel) checkpoint(id, remaining int64) {
	if l, ok := m.leases[id]; ok {
		l.Remaining = max(0, remaining)
		m.leases[id] = l
	}
}

// erase deletes keys, in one revision if there are any.
func (m *leaseModel) erase(gone func(key string) bool) {
	before := len(m.keys)
	maps.DeleteFunc(m.keys, func(key string, _ int64) bool { return gone(key) })
	if len(m.keys) != before {
		m.rev++
	}
}

// put puts keys in one entry.
func (m *leaseModel) put(puts ...*etcdserverpb.PutRequest) error {
	for _, p := range puts {
		if _, ok := m.leases[p.GetLease()]; !ok && p.GetLease() != 0 {
			return lease.ErrNotFound
		}
	}
	for _, p := range puts {
		m.keys[string(p.GetKey())] = p.GetLease()
	}
	m.rev++
	return nil
}

func (m *leaseModel) leaseText() string {
	s := ""
	for _, id := range slices.Sorted(maps.Keys(m.leases)) {
		l := m.leases[id]
		var keys [][]byte
		for _, key := range slices.Sorted(maps.Keys(m.keys)) {
			if m.keys[key] == id {
				keys = append(keys, []byte(key))
			}
		}
		s += fmt.Sprintf("%d:%d/%d%s ", id, l.Remaining, l.TTL, keys)
	}
	return strings.TrimSpace(s)
}

// step draws a request and does it to the model.
func (m *leaseModel) step(d drawn) (cmd Command, msg proto.Message, err error) {
	simple := func(label string) *etcdserverpb.PutRequest {
		return on(rapid.SampledFrom([]int64{0, 0, 7, 8, -9}).Draw(d.T, label), put(string(d.key()), "v"))
	}
	switch x := rapid.IntRange(0, 19).Draw(d.T, "step"); {
	case x < 4:
		id, ttl := d.lease(), rapid.Int64Range(-1, 9).Draw(d.T, "ttl")
		return CommandLeaseGrant, grant(id, ttl), m.grant(id, ttl)
	case x < 7:
		id := d.lease()
		return CommandLeaseRevoke, revoke(id), m.revoke(id)
	case x < 9:
		id, remaining := d.lease(), rapid.Int64Range(-1, 9).Draw(d.T, "remaining")
		m.checkpoint(id, remaining)
		return CommandLeaseCheckpoint, checkpoint(12345, 6, id, remaining), nil
	case x < 14:
		p := simple("lease")
		return CommandPut, p, m.put(p)
	case x < 16:
		key, end := string(d.key()), string(d.end())
		m.erase(func(k string) bool {
			if end == "" {
				return k == key
			}
			return k >= key && (end == "\x00" || k < end)
		})
		return CommandDeleteRange, del(key, end), nil
	default:
		a, b := simple("first"), simple("second")
		return CommandTxn, then(a, b), m.put(a, b)
	}
}

// Whatever is granted, revoked, put and deleted, and however the entries are cut into groups: the leases, their keys, the
// answers and the revisions are those of the model, also after a restart.
func TestLeasesAreThoseOfTheModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		d := drawn{rt}
		l := newLab(t)
		defer l.close()
		m := &leaseModel{leases: map[int64]lease.Lease{}, keys: map[string]int64{}, rev: 1}
		for range rapid.IntRange(1, 8).Draw(rt, "groups") {
			var entries []*raftpb.Entry
			refused, revisions := map[uint64]error{}, map[uint64]int64{}
			for range rapid.IntRange(1, 12).Draw(rt, "entries") {
				cmd, msg, err := m.step(d)
				entries = append(entries, l.entry(cmd, msg))
				refused[l.last], revisions[l.last] = err, m.rev
			}
			l.check(l.m.Apply(entries, func(uint64) bool { return true }, func(id uint64, r Result) {
				if !errors.Is(r.Err, refused[id]) || (r.Err == nil) != (refused[id] == nil) || r.Revision != revisions[id] {
					rt.Fatalf("entry %d: revision %d, %v; want %d, %v", id, r.Revision, r.Err, revisions[id], refused[id])
				}
			}))
			if d.one(4, "reopen") {
				l.reopen(false)
			}
			if got, want := l.leaseText(), m.leaseText(); got != want {
				rt.Fatalf("the leases are\n%s, want\n%s", got, want)
			}
			l.checkAttachments()
		}
	})
}
