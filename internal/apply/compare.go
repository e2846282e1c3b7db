package apply

import (
	"bytes"
	"cmp"
	"errors"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// errViolated ends a range compare at the first key that does not hold.
var errViolated = errors.New("apply: a key does not hold the comparison")

// plan is a transaction with its conditions decided: which branch each transaction in
// it takes. All conditions, nested ones too, are decided before anything is written,
// so a nested one does not see what its parent writes.
type plan struct {
	succeeded bool
	ops       []Op
	nested    []*plan // of the operations that are transactions, in their order
	looked    int     // conditions that were looked at, nested ones too
}

// decide evaluates the conditions of t and of the transactions in the branch taken.
func decide(from mvcc.Reader, t *Txn) (*plan, error) {
	ok, looked, err := holds(from, t.Compare)
	if err != nil {
		return nil, err
	}
	p := &plan{succeeded: ok, ops: t.Failure, looked: looked}
	if ok {
		p.ops = t.Success
	}
	for i := range p.ops {
		if p.ops[i].Txn == nil {
			continue
		}
		n, err := decide(from, p.ops[i].Txn)
		if err != nil {
			return nil, err
		}
		p.nested = append(p.nested, n)
		p.looked += n.looked
	}
	return p, nil
}

// holds tells whether all conditions hold, and how many of them were looked at for that.
func holds(from mvcc.Reader, cs []Compare) (ok bool, looked int, err error) {
	for i := range cs {
		if ok, err := cs[i].holds(from); err != nil || !ok {
			return false, i + 1, err
		}
	}
	return true, len(cs), nil
}

// holds evaluates one condition, for every key of its range. Where there is no key
// the numbers are 0, and a condition on the value fails whatever it says.
func (c *Compare) holds(from mvcc.Reader) (bool, error) {
	if len(c.RangeEnd) == 0 {
		get := from.Head
		if c.Target == CompareValue {
			get = from.Get
		}
		kv, ok, err := get(c.Key)
		if err != nil {
			return false, err
		}
		return c.matches(kv, ok), nil
	}
	found := false
	o := mvcc.RangeOptions{Key: c.Key, End: c.RangeEnd, SkipCount: true, NoLarge: c.Target != CompareValue}
	_, err := from.Range(o, func(kv mvcc.KV) error {
		found = true
		if !c.matches(kv, true) {
			return errViolated
		}
		return nil
	})
	switch {
	case errors.Is(err, errViolated):
		return false, nil
	case err != nil:
		return false, err
	}
	return found || c.matches(mvcc.KV{}, false), nil
}

// matches compares one version, or the lack of one.
func (c *Compare) matches(kv mvcc.KV, exists bool) bool {
	switch c.Target {
	case CompareVersion:
		return c.decide(cmp.Compare(kv.Version(), c.number(UnionVersion)))
	case CompareCreate:
		return c.decide(cmp.Compare(kv.CreateRevision(), c.number(UnionCreate)))
	case CompareMod:
		return c.decide(cmp.Compare(kv.ModRevision(), c.number(UnionMod)))
	case CompareValue:
		// Value is nil unless it was sent.
		return exists && c.decide(bytes.Compare(kv.Value(), c.Value))
	case CompareLease:
		return c.decide(cmp.Compare(kv.Lease(), c.number(UnionLease)))
	default:
		return c.decide(0)
	}
}

// number returns the number to compare with: 0 unless the one sent is for this target.
func (c *Compare) number(u CompareUnion) int64 {
	if c.Union != u {
		return 0
	}
	return c.Number
}

func (c *Compare) decide(order int) bool {
	switch c.Result {
	case CompareEqual:
		return order == 0
	case CompareGreater:
		return order > 0
	case CompareLess:
		return order < 0
	case CompareNotEqual:
		return order != 0
	default:
		return true // as in etcd
	}
}
