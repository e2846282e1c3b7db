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
	log          []*raftpb.Entry   // the entries themselves
	applied      uint64            // the models have seen entries up to here
	again        bool              // the models see once more what they have seen before
	model        model
	members      modelMembers
	acknowledged int64                // newest revision in any answer
	hashes       map[[2]int64]uint32  // (revision, compacted) to HashKV
	chain        map[[2]uint64]uint64 // (index, base) to the chained hash
}

func (h *history) init() {
	h.entries = make(map[uint64]uint32)
	h.hashes = make(map[[2]int64]uint32)
	h.chain = make(map[[2]uint64]uint64)
	h.model = newModel()
	h.members = newModelMembers()
}

// saw records that a member applied e.
func (h *history) saw(w *World, host int, e *raftpb.Entry) {
	sum := checksum(e)
	if old, ok := h.entries[e.GetIndex()]; ok {
		if old != sum {
			w.fail("member %d applied another entry at index %d than others did", host, e.GetIndex())
		}
		return
	}
	h.entries[e.GetIndex()] = sum
	h.log = append(h.log, e)
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
func (h *history) chained(w *World, by *host, p apply.Point) {
	at := [2]uint64{p.Index, p.Base}
	if by.fault.generation != 0 {
		return // it differs as soon as a write meets the fault
	}
	if old, ok := h.chain[at]; ok && old != p.Hash {
		w.fail("member %d has the chained hash %+v, it was %x elsewhere", by.n, p, old)
	}
	h.chain[at] = p.Hash
}

func checksum(e *raftpb.Entry) uint32 {
	return crc32.ChecksumIEEE(fmt.Appendf(nil, "%d %s %x", e.GetTerm(), e.GetType(), e.GetData()))
}

// rewind forgets all entries above an index, with what they did.
func (h *history) rewind(w *World, to uint64) {
	kept := h.log[:to]
	*h = history{again: true}
	h.init()
	for _, e := range kept {
		h.saw(w, -1, e)
	}
	h.again = false
	h.acknowledged = h.model.revision
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
