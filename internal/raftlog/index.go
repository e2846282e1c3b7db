package raftlog

import (
	"slices"
	"sort"

	"github.com/ashlar-kv/ashlar/internal/invariant"
)

// pointBytes is how much of a segment lies between two points at least, where nothing else asks for one.
const pointBytes = 16 << 10

// pointMemory is what a point takes in memory.
const pointMemory = 32

// point says where an entry lies. Those after it, up to the next point, follow it in the same segment, in the same record or
// in later ones.
type point struct {
	index   uint64
	segment *segment
	at      int64 // offset of the entry
	end     int64 // of its record
}

// index knows where the entries of a log lie. The lock of the Log guards it.
type index struct {
	points []point // by index
}

// add says where an entry lies that is the last one now. With forced it is remembered in any case: what lies before it in the
// segment is not the entry before it.
func (x *index) add(p point, forced bool) {
	if n := len(x.points); n > 0 && !forced {
		if l := &x.points[n-1]; l.segment == p.segment && p.at-l.at < pointBytes {
			return
		}
	}
	x.points = append(x.points, p)
	x.check()
}

// covered is the index of the first entry whose place is known; 0 when none is.
func (x *index) covered() uint64 {
	if len(x.points) == 0 {
		return 0
	}
	return x.points[0].index
}

// after returns the place in points of the first one above index.
func (x *index) after(index uint64) int {
	return sort.Search(len(x.points), func(i int) bool { return x.points[i].index > index })
}

// dropFrom forgets the entries from index on.
func (x *index) dropFrom(index uint64) {
	n := sort.Search(len(x.points), func(i int) bool { return x.points[i].index >= index })
	clear(x.points[n:])
	x.points = x.points[:n]
}

// dropUpTo forgets what only entries up to index need, of which last is the last one.
func (x *index) dropUpTo(index, last uint64) {
	n := len(x.points)
	if index < last {
		n = max(0, x.after(index+1)-1)
	}
	clear(x.points[:n])
	x.points = x.points[n:]
	if len(x.points) == 0 {
		x.points = nil
	}
}

// oldest returns the segment of the first entry; nil when there is none.
func (x *index) oldest() *segment {
	if len(x.points) == 0 {
		return nil
	}
	return x.points[0].segment
}

// part returns the points that reading [lo, hi) needs and keeps their segments open until they are released. Where that is much more than
// maxBytes reach it returns fewer, and end, up to which they are good, is below hi. REQUIRES: covered() is not 0 and at most lo < hi.
func (x *index) part(lo, hi, maxBytes uint64) (part []point, end uint64) {
	// raft counts an entry as 7 bytes at least, and in a segment it takes 16 times as much at most when it is alone in a record.
	limit := uint64(1<<20) + 16*min(maxBytes, 1<<50)
	from := x.after(lo) - 1
	to := from + 1
	for bytes := uint64(0); to < len(x.points) && x.points[to].index < hi && bytes <= limit; to++ {
		if a, b := &x.points[to-1], &x.points[to]; a.segment == b.segment {
			bytes += uint64(b.at - a.at)
		}
	}
	if end = hi; to < len(x.points) {
		end = min(hi, x.points[to].index)
	}
	part = slices.Clone(x.points[from:to])
	for _, p := range part {
		p.segment.acquire()
	}
	return part, end
}

func (x *index) check() {
	if n := len(x.points); invariant.Enabled && n > 1 {
		a, b := x.points[n-2], x.points[n-1]
		invariant.Check(a.index < b.index && (a.segment.seq < b.segment.seq || a.segment == b.segment && a.at < b.at),
			"entry %d at %d of segment %d follows %d at %d of %d", b.index, b.at, b.segment.seq, a.index, a.at, a.segment.seq)
	}
}
