package apply

import (
	"bytes"

	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// checker decides whether requests are refused, before anything is written. It goes
// through the branches taken in the order of the operations, as etcd does: the first
// reason is the answer.
type checker struct {
	from           mvcc.Reader
	rev, compacted int64
	leaseExists    func(id int64) bool
	// clearedFrom is the smallest key from which on the transaction has deleted all, nil if it has not.
	clearedFrom []byte
	// looked is how many puts etcd would have read the version before for, to check them.
	looked int
}

// checker returns the one for an entry of the group. REQUIRES: the entry has written nothing yet.
func (g *group) checker() checker {
	return checker{
		from: g.w, rev: g.w.Revision(), compacted: g.w.CompactRevision(), leaseExists: g.leaseExists,
	}
}

func (c *checker) plan(p *plan) error {
	nested := p.nested
	for i := range p.ops {
		var err error
		switch op := &p.ops[i]; {
		case op.Range != nil:
			err = c.revision(op.Range.Revision)
		case op.Put != nil:
			err = c.put(op.Put)
		case op.DeleteRange != nil:
			c.deletes(op.DeleteRange)
		case op.Txn != nil:
			err = c.plan(nested[0])
			nested = nested[1:]
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// revision checks the revision of a range in a transaction. A negative one is not the present as it is outside
// of transactions, but one long compacted; only -1 is readable in a store that was never compacted. So it is in etcd.
func (c *checker) revision(rev int64) error {
	switch {
	case rev == 0:
		return nil
	case rev > c.rev:
		return mvcc.ErrFutureRevision
	case rev < c.compacted:
		return mvcc.ErrCompacted
	}
	return nil
}

func (c *checker) put(p *Put) error {
	if len(p.Key) == 0 {
		return ErrEmptyKey
	}
	if p.Lease != 0 && !c.leaseExists(p.Lease) {
		return lease.ErrNotFound
	}
	c.looked += p.reads()
	if !p.IgnoreValue && !p.IgnoreLease {
		return nil
	}
	_, ok, err := c.from.Head(p.Key)
	if err != nil {
		return err
	}
	if !ok || c.gone(p.Key) {
		return ErrKeyNotFound
	}
	return nil
}

// deletes notes a deletion that a later put might miss what it is to keep by. A transaction that deletes a bounded
// range and puts a key of it is refused as a duplicate before it is proposed, so only unbounded ones count.
func (c *checker) deletes(d *DeleteRange) {
	if !fromKeyOn(d.RangeEnd) {
		return
	}
	if c.clearedFrom == nil || bytes.Compare(d.Key, c.clearedFrom) < 0 {
		c.clearedFrom = append([]byte{}, d.Key...)
	}
}

// gone tells whether this very transaction deletes key before it puts it. etcd crashes there.
func (c *checker) gone(key []byte) bool {
	return c.clearedFrom != nil && bytes.Compare(key, c.clearedFrom) >= 0
}
