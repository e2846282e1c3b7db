package raftlog

import (
	"github.com/ashlar-kv/ashlar/internal/invariant"
	"go.etcd.io/raft/v3/raftpb"
)

// tail holds the newest entries in memory: without gaps up to the last one of the log, or nothing. It is
// bounded by bytes and by number, but always keeps the last entry, so that raft's most frequent question is answered here, and, up to a bound
// of their own, those that are to be applied yet (settled): raft asks for each of them once more.
// The lock of the Log guards it.
type tail struct {
	entries      []*raftpb.Entry
	bytes        int
	max          int
	settled      uint64 // entries above it are to be applied
	unsettledMax int
}

// tailEntries is how many entries are held at most. Members that keep up with each other and with themselves ask for no older ones, and
// each is five pieces of memory for the collector to look at.
const tailEntries = 4096

// entryOverhead is about what an entry takes in memory besides its data.
const entryOverhead = 128

func memoryBytes(e *raftpb.Entry) int { return len(e.GetData()) + entryOverhead }

// first returns the index of the oldest entry held; none is told by ok.
func (t *tail) first() (index uint64, ok bool) {
	if len(t.entries) == 0 {
		return 0, false
	}
	return t.entries[0].GetIndex(), true
}

// get returns the entry at index, or nil if it is not held.
func (t *tail) get(index uint64) *raftpb.Entry {
	first, ok := t.first()
	if !ok || index < first || index-first >= uint64(len(t.entries)) {
		return nil
	}
	return t.entries[index-first]
}

// from returns the entries held from index on; they may not be kept after the lock is given back.
func (t *tail) from(index uint64) []*raftpb.Entry {
	first, ok := t.first()
	if !ok || index < first || index-first >= uint64(len(t.entries)) {
		return nil
	}
	return t.entries[index-first:]
}

// append adds entries without gaps among them, after dropping what is held from the first of them on.
func (t *tail) append(entries []*raftpb.Entry) {
	if len(entries) == 0 {
		return
	}
	t.dropFrom(entries[0].GetIndex())
	t.entries = append(t.entries, entries...)
	for _, e := range entries {
		t.bytes += memoryBytes(e)
	}
	t.bound()
}

// settle says that the entries up to index are applied.
func (t *tail) settle(index uint64) {
	t.settled = index
	t.bound()
}

// bound drops what is too much.
func (t *tail) bound() {
	drop := 0
	for (t.bytes > t.max || len(t.entries)-drop > tailEntries) && drop < len(t.entries)-1 &&
		(t.bytes > t.unsettledMax || t.entries[drop].GetIndex() <= t.settled) {
		t.bytes -= memoryBytes(t.entries[drop])
		drop++
	}
	t.removeFront(drop)
	t.check()
}

// dropFrom drops the entries from index on.
func (t *tail) dropFrom(index uint64) {
	first, ok := t.first()
	if !ok || index-first >= uint64(len(t.entries)) && index >= first {
		return
	}
	keep := uint64(0)
	if index > first {
		keep = index - first
	}
	for _, e := range t.entries[keep:] {
		t.bytes -= memoryBytes(e)
	}
	clear(t.entries[keep:])
	t.entries = t.entries[:keep]
}

// dropUpTo drops the entries up to index.
func (t *tail) dropUpTo(index uint64) {
	first, ok := t.first()
	if !ok || index < first {
		return
	}
	n := int(min(index-first+1, uint64(len(t.entries))))
	for _, e := range t.entries[:n] {
		t.bytes -= memoryBytes(e)
	}
	t.removeFront(n)
	t.check()
}

// removeFront forgets the first n entries and lets their memory go.
func (t *tail) removeFront(n int) {
	clear(t.entries[:n])
	t.entries = t.entries[n:]
	if len(t.entries) == 0 {
		t.entries = nil
	}
}

func (t *tail) check() {
	if !invariant.Enabled {
		return
	}
	bytes := 0
	for i, e := range t.entries {
		invariant.Check(e.GetIndex() == t.entries[0].GetIndex()+uint64(i), "the tail has entry %d at place %d after %d",
			e.GetIndex(), i, t.entries[0].GetIndex())
		bytes += memoryBytes(e)
	}
	invariant.Check(bytes == t.bytes, "the tail counts %d bytes and holds %d", t.bytes, bytes)
}
