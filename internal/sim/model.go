package sim

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"sort"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// model is the store as simply as it can be said: for each key its versions, and which leases there are.
type model struct {
	versions   map[string][]modelVersion
	events     []modelEvent // all there ever were, in order
	leases     map[int64]modelLease
	revision   int64
	compacted  int64
	corrupt    map[uint64]bool  // whose alarm is raised
	revisionAt map[uint64]int64 // entry to the revision after it
}

type modelVersion struct {
	revision, create, version, lease int64
	value                            []byte // nil: deleted
}

type modelEvent struct {
	key      string
	now      modelVersion
	previous *modelVersion // nil: there was none
}

type modelLease struct {
	ttl  int64
	keys map[string]bool
}

func newModel() model {
	return model{
		versions: map[string][]modelVersion{}, leases: map[int64]modelLease{},
		corrupt: map[uint64]bool{}, revision: 1, revisionAt: map[uint64]int64{},
	}
}

// at returns the key's version at a revision; nil if it is not there.
func (m *model) at(key string, rev int64) *modelVersion {
	vs := m.versions[key]
	for i := len(vs) - 1; i >= 0; i-- {
		if vs[i].revision <= rev {
			if vs[i].value == nil {
				return nil
			}
			return &vs[i]
		}
	}
	return nil
}

// all returns everything at a revision as text, sorted.
func (m *model) all(rev int64) []string {
	var out []string
	for k := range m.versions {
		if v := m.at(k, rev); v != nil {
			out = append(out, stored(k, v.value, v.revision, v.create, v.version, v.lease))
		}
	}
	slices.Sort(out)
	return out
}

// stored is a key as text.
func stored[T string | []byte](key T, value []byte, mod, create, version, lease int64) string {
	return fmt.Sprintf("%s=%s@%d from %d version %d lease %d", key, value, mod, create, version, lease)
}

// between returns the events of revisions in [from, to].
func (m *model) between(from, to int64) []modelEvent {
	i := sort.Search(len(m.events), func(i int) bool { return m.events[i].now.revision >= from })
	j := sort.Search(len(m.events), func(i int) bool { return m.events[i].now.revision > to })
	return m.events[i:max(i, j)]
}

func (m *model) set(key string, v modelVersion) {
	previous := m.at(key, v.revision)
	if previous != nil {
		previous = new(*previous)
		m.hang(key, previous.lease, false)
	}
	if v.value != nil {
		v.create, v.version = v.revision, 1
		if previous != nil {
			v.create, v.version = previous.create, previous.version+1
		}
		m.hang(key, v.lease, true)
	}
	m.versions[key] = append(m.versions[key], v)
	m.events = append(m.events, modelEvent{key, v, previous})
}

// hang hangs a key on a lease, or takes it off.
func (m *model) hang(key string, lease int64, on bool) {
	if l, ok := m.leases[lease]; ok && on {
		l.keys[key] = true
	} else if ok {
		delete(l.keys, key)
	}
}

// put reports whether the put was made: its lease must be there.
func (m *model) put(rev int64, p *etcdserverpb.PutRequest) bool {
	if !m.hasLease(p) {
		return false
	}
	m.set(string(p.Key), modelVersion{revision: rev, value: p.Value, lease: p.Lease})
	return true
}

func (m *model) hasLease(p *etcdserverpb.PutRequest) bool {
	_, ok := m.leases[p.Lease]
	return p.Lease == 0 || ok
}

// remove deletes those of keys that are there, in order, and says how many there were.
func (m *model) remove(rev int64, keys []string) (n int) {
	slices.Sort(keys)
	for _, k := range keys {
		if m.at(k, rev) != nil {
			m.set(k, modelVersion{revision: rev})
			n++
		}
	}
	return n
}

// within returns the keys of a range that ever were.
func (m *model) within(key, end []byte) (keys []string) {
	for k := range m.versions {
		if covers(key, end, k) {
			keys = append(keys, k)
		}
	}
	return keys
}

// covers says whether a range, as requests name it, holds a key.
func covers(key, end []byte, k string) bool {
	switch {
	case len(end) == 0:
		return k == string(key)
	case bytes.Equal(end, []byte{0}):
		return k >= string(key)
	default:
		return k >= string(key) && k < string(end)
	}
}

// apply does what an entry says.
func (m *model) apply(w *World, data []byte) {
	var r etcdserverpb.InternalRaftRequest
	if err := proto.Unmarshal(data, &r); err != nil {
		w.fail("an entry cannot be read: %v", err)
	}
	next := m.revision + 1
	changed := false
	switch {
	case r.Alarm != nil:
		m.alarm(r.Alarm)
	case len(m.corrupt) > 0: // refuses all that follows
	case r.Put != nil:
		changed = m.put(next, r.Put)
	case r.DeleteRange != nil:
		changed = m.remove(next, m.within(r.DeleteRange.Key, r.DeleteRange.RangeEnd)) > 0
	case r.Txn != nil:
		changed = m.txn(next, r.Txn)
	case r.Compaction != nil:
		if c := r.Compaction.Revision; c > m.compacted && c <= m.revision {
			m.compacted = c
		}
	case r.LeaseGrant != nil:
		if _, taken := m.leases[r.LeaseGrant.ID]; !taken {
			m.leases[r.LeaseGrant.ID] = modelLease{r.LeaseGrant.TTL, map[string]bool{}}
			w.terms.granted(w, r.LeaseGrant.ID, r.LeaseGrant.TTL)
		}
	case r.LeaseRevoke != nil:
		if l, ok := m.leases[r.LeaseRevoke.ID]; ok {
			w.terms.ended(w, r.LeaseRevoke.ID)
			keys := slices.Collect(maps.Keys(l.keys))
			delete(m.leases, r.LeaseRevoke.ID)
			changed = m.remove(next, keys) > 0
		}
	}
	if changed {
		m.revision = next
	}
}

// alarm knows CORRUPT alone.
func (m *model) alarm(r *etcdserverpb.AlarmRequest) {
	switch r.Action {
	case etcdserverpb.AlarmRequest_ACTIVATE:
		m.corrupt[r.MemberID] = true
	case etcdserverpb.AlarmRequest_DEACTIVATE:
		delete(m.corrupt, r.MemberID)
	}
}

// txn knows the one shape that clients send.
func (m *model) txn(rev int64, t *etcdserverpb.TxnRequest) bool {
	c := t.Compare[0]
	var mod int64
	if v := m.at(string(c.Key), rev); v != nil {
		mod = v.revision
	}
	ops := t.Failure
	if mod < c.GetModRevision() {
		ops = t.Success
	}
	for _, op := range ops {
		if !m.hasLease(op.GetRequestPut()) {
			return false
		}
	}
	for _, op := range ops {
		m.put(rev, op.GetRequestPut())
	}
	return true
}

// missing is the first element of want that is not in got, or the other way round.
func missing(want, got []string) string {
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(want):
			return "too much: " + got[i]
		case i >= len(got):
			return "missing: " + want[i]
		case want[i] != got[i]:
			return fmt.Sprintf("want %s, got %s", want[i], got[i])
		}
	}
	return ""
}
