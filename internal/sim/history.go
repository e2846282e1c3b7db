package sim

import (
	"fmt"
	"hash/crc32"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/apply"
)

// history is what the world knows to be true: every entry that any member has
// applied, in order, and simple models that they were applied to.
type history struct {
	entries      map[uint64]uint32 // index to a checksum of term, type and data
	applied      uint64            // the models have seen entries up to here
	model        model
	members      modelMembers
	acknowledged int64                  // newest revision in any answer
	hashes       map[[2]int64]uint32    // (revision, compacted) to HashKV
	chain        map[uint64]apply.Point // index to the chained hash
}

func (h *history) init() {
	h.entries = make(map[uint64]uint32)
	h.hashes = make(map[[2]int64]uint32)
	h.chain = make(map[uint64]apply.Point)
	h.model = newModel()
	h.members = newModelMembers()
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
	switch {
	case e.GetType() == raftpb.EntryConfChange:
		h.members.apply(w, e.GetData())
	case len(e.GetData()) > 0:
		h.model.apply(w, e.GetData())
	}
	h.model.revisionAt[h.applied] = h.model.revision
}

// chained records a member's chained hash after an entry.
func (h *history) chained(w *World, host int, p apply.Point) {
	if old, ok := h.chain[p.Index]; ok && old != p {
		w.fail("member %d has the chained hash %+v, it was %+v elsewhere", host, p, old)
	}
	h.chain[p.Index] = p
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
