package mvcc

import (
	"bytes"
	"cmp"
	"slices"
)

// item is one key-value held for sorting.
type item struct {
	version record
	num     int64  // what is sorted by, unless it is the value
	value   []byte // aliases version
}

// itemCost is what an item takes beside its bytes, holdStep the least that RangeOptions.Hold is asked for.
const (
	itemCost = 64
	holdStep = 64 << 10
)

// sorted collects the range, sorts it and gives it out. Limit applies to the sorted result, but with SortNone and no
// filter to what is sorted: then the first keys of the range are sorted, not the range. That is how etcd does it.
func (q *query) sorted() error {
	items, err := q.collect()
	if err != nil {
		return err
	}
	slices.SortStableFunc(items, q.compare())
	for i := range items {
		if q.full() {
			q.more = true
			break
		}
		if err := q.give(items[i].version, false); err != nil {
			return err
		}
	}
	return nil
}

func (q *query) collect() (items []item, err error) {
	c, err := q.src.cursor(q.o.Key, q.o.End, q.rev, false)
	if err != nil {
		return nil, err
	}
	first := q.o.Limit > 0 && q.o.Order == SortNone && !q.o.filtered()
	var held heap
	for size, copied, taken := 0, 0, 0; c.next(); {
		if first && int64(len(items)) > q.o.Limit {
			return items, q.countRest(c.key(), false)
		}
		q.count++
		if err := q.ended(); err != nil {
			return nil, err
		}
		r := c.record()
		if !q.passes(r) {
			continue
		}
		if size += r.size(); size > q.sortBytesMax {
			return nil, ErrTooLarge
		}
		if q.o.Target == SortByValue {
			kv, err := q.src.whole(r, false)
			if err != nil {
				return nil, err
			}
			r = record{kv.raw}
		}
		copied += len(r.stored)
		if need := copied + itemCost*len(items); q.o.Hold != nil && need > taken {
			n := max(holdStep, need-taken)
			if err := q.o.Hold(n); err != nil {
				return nil, err
			}
			taken += n
		}
		if first {
			q.last = append(q.last[:0], c.key()...)
		}
		items = append(items, q.item(record{held.copy(r.stored)}))
	}
	return items, c.failure()
}

func (q *query) item(r record) item {
	f, _ := r.fields()
	switch q.o.Target {
	case SortByVersion:
		return item{version: r, num: f.version}
	case SortByCreate:
		return item{version: r, num: f.create}
	case SortByMod:
		return item{version: r, num: f.mod}
	default:
		return item{version: r, value: f.value}
	}
}

// compare orders items; equal ones are left to the stable sort in both directions.
func (q *query) compare() func(a, b item) int {
	sign := 1
	if q.o.Order == SortDescend {
		sign = -1
	}
	if q.o.Target == SortByValue {
		return func(a, b item) int { return sign * bytes.Compare(a.value, b.value) }
	}
	return func(a, b item) int { return sign * cmp.Compare(a.num, b.num) }
}

// heap hands out memory that is never reused, from pieces that grow to 64 KiB. The first piece is what is asked for and no more, so that
// little is left over where little is asked for.
type heap struct {
	free []byte
	next int
}

func (h *heap) alloc(n int) []byte {
	if n > len(h.free) {
		first := h.next == 0
		h.next = min(max(2*h.next, 1<<10), 64<<10)
		if first || n > h.next/4 {
			return make([]byte, n)
		}
		h.free = make([]byte, h.next)
	}
	b := h.free[:n:n]
	h.free = h.free[n:]
	return b
}

func (h *heap) copy(b []byte) []byte {
	c := h.alloc(len(b))
	copy(c, b)
	return c
}
