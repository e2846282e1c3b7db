package sim

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"slices"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
)

// history is what the world knows to be true: every entry that any member has
// applied, in order, and a simple model that they were applied to.
type history struct {
	entries      map[uint64]uint32 // index to a checksum of term, type and data
	applied      uint64            // the model has seen entries up to here
	model        model
	acknowledged int64               // newest revision in any answer
	hashes       map[[2]int64]uint32 // (revision, compacted) to HashKV
}

func (h *history) init() {
	h.entries = make(map[uint64]uint32)
	h.hashes = make(map[[2]int64]uint32)
	h.model = newModel()
}

// saw records that a member applied e.
func (h *history) saw(w *World, host int, e *raftpb.Entry) {
	sum := crc32.ChecksumIEEE(fmt.Appendf(nil, "%d %s %x", e.GetTerm(), e.GetType(), e.GetData()))
	if old, ok := h.entries[e.GetIndex()]; ok {
		if old != sum {
			w.fail("member %d applied another entry at index %d than others did", host, e.GetIndex())
		}
		return
	}
	h.entries[e.GetIndex()] = sum
	if e.GetIndex() != h.applied+1 {
		w.fail("the entry at index %d was seen first, but %d never was", e.GetIndex(), h.applied+1)
	}
	h.applied = e.GetIndex()
	if e.GetType() == raftpb.EntryNormal && len(e.GetData()) > 0 {
		h.model.apply(w, e.GetData())
	}
}

// acknowledge notes an answer to a write.
func (h *history) acknowledge(w *World, r apply.Result) {
	if r.Index > h.applied {
		w.fail("entry %d was answered before any member applied it", r.Index)
	}
	if want := h.model.revisionAt[r.Index]; r.Revision != want {
		w.fail("entry %d was answered with revision %d, the model says %d", r.Index, r.Revision, want)
	}
	h.acknowledged = max(h.acknowledged, r.Revision)
}

// model is the store as simply as it can be said: for each key its versions.
type model struct {
	versions   map[string][]modelVersion
	revision   int64
	compacted  int64
	revisionAt map[uint64]int64 // entry to the revision after it
}

type modelVersion struct {
	revision int64
	value    []byte // nil: deleted
}

func newModel() model {
	return model{versions: map[string][]modelVersion{}, revision: 1, revisionAt: map[uint64]int64{}}
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

// all returns "key value revision" of everything at a revision, sorted.
func (m *model) all(rev int64) []string {
	var out []string
	for k := range m.versions {
		if v := m.at(k, rev); v != nil {
			out = append(out, fmt.Sprintf("%s=%s@%d", k, v.value, v.revision))
		}
	}
	slices.Sort(out)
	return out
}

func (m *model) put(rev int64, key, value []byte) {
	m.versions[string(key)] = append(m.versions[string(key)], modelVersion{rev, value})
}

// remove deletes a range and says how many keys there were.
func (m *model) remove(rev int64, key, end []byte) (n int) {
	for k := range m.versions {
		in := k == string(key)
		if len(end) > 0 {
			in = k >= string(key) && k < string(end)
		}
		if in && m.at(k, rev) != nil {
			m.versions[k] = append(m.versions[k], modelVersion{rev, nil})
			n++
		}
	}
	return n
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
	case r.Put != nil:
		m.put(next, r.Put.Key, r.Put.Value)
		changed = true
	case r.DeleteRange != nil:
		changed = m.remove(next, r.DeleteRange.Key, r.DeleteRange.RangeEnd) > 0
	case r.Txn != nil:
		m.txn(next, r.Txn)
		changed = true
	case r.Compaction != nil:
		if c := r.Compaction.Revision; c > m.compacted && c <= m.revision {
			m.compacted = c
		}
	}
	if changed {
		m.revision = next
	}
	m.revisionAt[w.history.applied] = m.revision
}

// txn knows the one shape that clients send.
func (m *model) txn(rev int64, t *etcdserverpb.TxnRequest) {
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
		m.put(rev, op.GetRequestPut().Key, op.GetRequestPut().Value)
	}
}

// missing is the first element of want that is not in got, or the other way round.
func missing(want, got []string) string {
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(want):
			return "too much: " + got[i]
		case i >= len(got):
			return "missing: " + want[i]
		case !bytes.Equal([]byte(want[i]), []byte(got[i])):
			return fmt.Sprintf("want %s, got %s", want[i], got[i])
		}
	}
	return ""
}
