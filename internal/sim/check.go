package sim

import (
	"context"
	"errors"
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/raftlog"
)

// check holds after every step.
func (w *World) check() {
	for _, h := range w.hosts {
		if h.m == nil {
			continue
		}
		w.checkDisk(h)
		w.checkFault(h)
		w.checkOrder(h)
	}
}

// checkOrder compares what the member has applied since the last look.
func (w *World) checkOrder(h *host) {
	applied := h.m.Node().Applied()
	for ; h.checked < applied; h.checked++ {
		if p, ok := h.m.Chain().At(h.checked + 1); ok {
			w.history.chained(w, h, p)
		}
		es, err := h.m.Log().Entries(h.checked+1, h.checked+2, 1<<20)
		if err != nil && h.ailing() { // the member itself had it in memory
			h.disk.look(func() { es, err = h.m.Log().Entries(h.checked+1, h.checked+2, 1<<20) })
		}
		if errors.Is(err, raftlog.ErrCompacted) {
			continue // before the last start, or covered by a snapshot: others have seen it
		}
		if err != nil {
			h.failedTo(fmt.Sprintf("read entry %d of its log", h.checked+1), err)
			return
		}
		w.history.saw(w, h.n, es[0])
	}
}

// CheckStates compares every member with the model, at the newest and some older
// revisions, and with each other.
func (w *World) CheckStates() {
	w.endAiling(true)
	for _, h := range w.hosts {
		if h.m == nil || !h.readable() || !h.sound() {
			continue
		}
		newest := w.openView(h, 0)
		current := newest.Current()
		w.compareView(h, newest, current)
		newest.Close()
		for range 5 {
			rev := 1 + w.rng.Int63n(current)
			v, err := h.m.View(rev)
			if errors.Is(err, mvcc.ErrCompacted) {
				continue
			}
			if err != nil {
				w.fail("member %d: open a view at %d: %v", h.n, rev, err)
			}
			w.compareView(h, v, rev)
			v.Close()
		}
		w.checkRevisions(h, current)
		w.checkHash(h)
		if h.m.Node().Applied() == w.history.applied {
			w.checkLeases(h)
			w.checkMembers(h)
		}
	}
}

func (w *World) openView(h *host, rev int64) *mvcc.View {
	v, err := h.m.View(rev)
	if err != nil {
		w.fail("member %d: open a view: %v", h.n, err)
	}
	return v
}

// compareView reads everything through v and compares it with the model at rev.
func (w *World) compareView(h *host, v *mvcc.View, rev int64) {
	var got []string
	res, err := v.Range(mvcc.RangeOptions{Key: []byte{0}, End: []byte{0}, Rev: rev}, func(kv mvcc.KV) error {
		got = append(got, stored(kv.Key(), kv.Value(), kv.ModRevision(), kv.CreateRevision(), kv.Version(), kv.Lease()))
		return nil
	})
	if err != nil {
		h.failedTo(fmt.Sprintf("read at revision %d", rev), err)
		return
	}
	want := w.history.model.all(rev)
	if rev > w.history.model.revision {
		w.fail("member %d is at revision %d, the model at %d", h.n, rev, w.history.model.revision)
	}
	if diff := missing(want, got); diff != "" {
		w.fail("member %d at revision %d: %s", h.n, rev, diff)
	}
	if res.Count != int64(len(want)) {
		w.fail("member %d at revision %d counts %d keys, there are %d", h.n, rev, res.Count, len(want))
	}
}

// checkRevisions walks the member's history: from the compacted revision on every
// revision is there.
func (w *World) checkRevisions(h *host, current int64) {
	next := max(w.compactedOf(h), 1) + 1
	err := h.m.Store().History(next, current, func(e mvcc.Event) error {
		switch {
		case e.Rev.Main == next:
			next++
		case e.Rev.Main != next-1:
			w.fail("member %d: revision %d follows %d", h.n, e.Rev.Main, next-1)
		}
		return nil
	})
	if err != nil {
		w.fail("member %d: read its history: %v", h.n, err)
	}
	if next != current+1 {
		w.fail("member %d: its history ends at %d of %d", h.n, next-1, current)
	}
}

func (w *World) compactedOf(h *host) int64 { return h.m.Store().CompactRevision() }

// checkHash compares the hash of HashKV with every member that was at the same revisions.
func (w *World) checkHash(h *host) {
	hash, compacted, rev, err := h.m.Store().HashNow(context.Background(), 0)
	if err != nil {
		w.fail("member %d: hash: %v", h.n, err)
	}
	at := [2]int64{rev, compacted}
	if old, ok := w.history.hashes[at]; ok && old != hash {
		w.fail("member %d: HashKV at revision %d, compacted %d, is %x; it was %x elsewhere", h.n, rev, compacted, hash, old)
	}
	w.history.hashes[at] = hash
}
