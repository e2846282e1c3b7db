package mvcc

// head is what a put needs to know of a key's newest version. The zero value says that the key is not there.
type head struct {
	at              Revision // zero when not live
	create, version int64
	size            int // of the version's value in data
	lease           int64
}

// headsMax bounds each of the two halves of heads, in keys; longer keys than headKeyMax are left out, so that it bounds
// the memory too.
const (
	headsMax   = 32 << 10
	headKeyMax = 512
)

// heads remembers the newest versions of keys that were written lately, so that a put to one of them reads nothing:
// most stores write few of their keys most of the time. It holds committed state only and belongs to the one who
// holds the Writer. When the young half is full it becomes the old one, and what was in the old one is forgotten.
type heads struct {
	young, old map[string]head
}

func (h *heads) get(key []byte) (head, bool) {
	if x, ok := h.young[string(key)]; ok {
		return x, true
	}
	x, ok := h.old[string(key)]
	return x, ok
}

func (h *heads) set(key []byte, x head) {
	if _, ok := h.young[string(key)]; !ok && len(h.young) >= headsMax || h.young == nil {
		h.old, h.young = h.young, make(map[string]head)
	}
	h.young[string(key)] = x
}

// learn takes in what a committed group wrote.
func (h *heads) learn(o *overlay) {
	for _, t := range o.byKey {
		if len(t.key) > headKeyMax {
			continue
		}
		h.set(t.key, headOf(t.newest.raw, t.newest.rev))
	}
}

// headOf returns the head that a version is; raw is nil for a tombstone.
func headOf(raw []byte, at Revision) head {
	if raw == nil {
		return head{}
	}
	f := KV{raw}.fields()
	return head{at: at, create: f.create, version: f.version, size: len(raw), lease: f.lease}
}
