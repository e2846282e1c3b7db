package rpc

import (
	"bytes"
	"cmp"
	"slices"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/ashlar-kv/ashlar/internal/apply"
)

// checkDuplicates refuses a transaction in which a key could be put twice, or put and deleted, since the order of these
// would then matter. Branches that exclude each other may both write a key. As in etcd, two things
// pass that one might not expect: a delete in a nested transaction after a nested transaction beside it that puts the key, and
// a delete to the end of all keys (range_end 00), whatever is put.
//
// REQUIRES: the limits of lists are checked, so transactions are not nested deeply.
func checkDuplicates(t *apply.Txn) error {
	if writes(t.Success)+writes(t.Failure) < 2 {
		return nil
	}
	for _, branch := range [][]apply.Op{t.Success, t.Failure} {
		if _, ok := written(branch); !ok {
			return rpctypes.ErrGRPCDuplicateKey
		}
	}
	return nil
}

// writes counts the ops that write, a transaction as two.
func writes(branch []apply.Op) (n int) {
	for i := range branch {
		switch o := &branch[i]; {
		case o.Txn != nil:
			n += 2
		case o.Put != nil, o.DeleteRange != nil:
			n++
		}
	}
	return n
}

// writeSet is what a branch writes.
type writeSet struct {
	puts    map[string]struct{}
	deletes intervals
}

// written collects what a branch writes, and tells whether it writes no key twice.
func written(branch []apply.Op) (w writeSet, ok bool) {
	for i := range branch {
		if d := branch[i].DeleteRange; d != nil {
			w.deletes.add(d.Key, d.RangeEnd)
		}
	}
	for i := range branch {
		if t := branch[i].Txn; t != nil && !w.mergeNested(t) {
			return w, false
		}
	}
	for i := range branch {
		p := branch[i].Put
		if p == nil {
			continue
		}
		if w.clashes(string(p.Key)) {
			return w, false
		}
		w.put(string(p.Key))
	}
	return w, true
}

// mergeNested adds what t writes in either branch, and tells whether no key is written twice.
func (w *writeSet) mergeNested(t *apply.Txn) bool {
	then, ok := written(t.Success)
	if !ok {
		return false
	}
	otherwise, ok := written(t.Failure)
	if !ok {
		return false
	}
	branches := []*writeSet{&then, &otherwise}
	for _, b := range branches {
		for key := range b.puts {
			if w.clashes(key) {
				return false
			}
		}
	}
	for _, b := range branches {
		if len(b.puts) > len(w.puts) {
			w.puts, b.puts = b.puts, w.puts
		}
		for key := range b.puts {
			w.put(key)
		}
		w.deletes.merge(&b.deletes)
	}
	return true
}

func (w *writeSet) put(key string) {
	if w.puts == nil {
		w.puts = make(map[string]struct{})
	}
	w.puts[key] = struct{}{}
}

func (w *writeSet) clashes(key string) bool {
	_, put := w.puts[key]
	return put || w.deletes.cover(key)
}

// interval is the keys [from, to); a nil to stands for from alone.
type interval struct{ from, to []byte }

// intervals is a set of keys made of intervals. sorted is ordered by from and without overlaps; what was
// added since stands in fresh.
type intervals struct{ sorted, fresh []interval }

// add adds the keys of a delete. A range that is empty, or goes to the end of all keys by an end of 00, adds nothing.
func (v *intervals) add(key, end []byte) {
	if len(end) == 0 {
		v.fresh = append(v.fresh, interval{from: key})
	} else if bytes.Compare(key, end) < 0 {
		v.fresh = append(v.fresh, interval{key, end})
	}
}

func (v *intervals) merge(o *intervals) {
	v.fresh = append(append(v.fresh, o.sorted...), o.fresh...)
}

// cover tells whether key is in the set.
func (v *intervals) cover(key string) bool {
	v.settle()
	k := []byte(key)
	i, found := slices.BinarySearchFunc(v.sorted, k, func(x interval, k []byte) int { return bytes.Compare(x.from, k) })
	if found {
		return true
	}
	return i > 0 && v.sorted[i-1].to != nil && bytes.Compare(k, v.sorted[i-1].to) < 0
}

// settle sorts what is fresh and merges it in.
func (v *intervals) settle() {
	if len(v.fresh) == 0 {
		return
	}
	slices.SortFunc(v.fresh, compareFrom)
	all := make([]interval, 0, len(v.sorted)+len(v.fresh))
	a, b := v.sorted, v.fresh
	for len(a)+len(b) > 0 {
		from := &a
		if len(a) == 0 || len(b) > 0 && compareFrom(b[0], a[0]) < 0 {
			from = &b
		}
		all = appendInterval(all, (*from)[0])
		*from = (*from)[1:]
	}
	v.sorted, v.fresh = all, nil
}

// compareFrom orders by from; of those with one from, the single key comes first.
func compareFrom(x, y interval) int {
	return cmp.Or(bytes.Compare(x.from, y.from), bytes.Compare(x.to, y.to))
}

// appendInterval appends x to sorted intervals that start no later, joined with the last one if they overlap.
func appendInterval(all []interval, x interval) []interval {
	if len(all) == 0 {
		return append(all, x)
	}
	last := &all[len(all)-1]
	switch {
	case last.to == nil && bytes.Equal(last.from, x.from):
		last.to = x.to
	case last.to == nil || bytes.Compare(x.from, last.to) >= 0:
		all = append(all, x)
	case bytes.Compare(x.to, last.to) > 0: // never for a single key, whose to is nil
		last.to = x.to
	}
	return all
}
