package apply

import "github.com/ashlar-kv/ashlar/internal/measure"

// Counts are how many operations machines have carried out, as etcd's store counts them. Several machines, one after the other, may share them.
//
// etcd counts what is done to its store, whoever it is done for: a range is also each condition that was looked at, and what a put or a delete
// has to know of the version before; and each of its store's transactions of more than one operation is one, so that a put with prev_kv
// is, and a request that writes in a transaction makes two, one that decides and one that does.
type Counts struct {
	// Puts, Deletes and Ranges count operations, by themselves or in transactions; PutBytes are the sizes of what was put,
	// keys and values. As in etcd the keys of a revoked lease are deletes, and several of them a transaction.
	Puts, PutBytes, Deletes, Ranges measure.Counter
	// Txns counts transactions of more than one operation.
	Txns measure.Counter
}

// did counts one of the store's transactions. Those that write count what they write themselves.
func (c *Counts) did(ranges, writes int) {
	if ranges > 0 {
		c.Ranges.Add(uint64(ranges))
	}
	if ranges+writes > 1 {
		c.Txns.Inc()
	}
}

// operations returns what carrying p out does to the store.
func (p *plan) operations() (ranges, writes int) {
	for i := range p.ops {
		switch op := &p.ops[i]; {
		case op.Range != nil:
			ranges++
		case op.Put != nil:
			ranges += op.Put.reads()
			writes++
		case op.DeleteRange != nil:
			ranges += op.DeleteRange.reads()
			writes++
		}
	}
	for _, nested := range p.nested {
		r, w := nested.operations()
		ranges, writes = ranges+r, writes+w
	}
	return ranges, writes
}

// reads returns how often etcd reads the version before for p.
func (p *Put) reads() int {
	if p.PrevKV || p.IgnoreValue || p.IgnoreLease {
		return 1
	}
	return 0
}

// reads returns how often etcd reads the versions before for d.
func (d *DeleteRange) reads() int {
	if d.PrevKV {
		return 1
	}
	return 0
}

// Commands returns all commands, in no order.
func Commands() []Command {
	out := make([]Command, 0, len(commandNames))
	for c := range commandNames {
		out = append(out, c)
	}
	return out
}
