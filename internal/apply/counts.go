package apply

import "github.com/ashlar-kv/ashlar/internal/measure"

// Counts are how many operations machines have carried out. Several machines, one after the other, may share them.
type Counts struct {
	// Puts, Deletes and Ranges count operations, by themselves or in transactions; PutBytes are the sizes of what was put,
	// keys and values. As in etcd the keys of a revoked lease are deletes, and several of them a transaction.
	Puts, PutBytes, Deletes, Ranges measure.Counter
	// Txns counts transactions of more than one operation.
	Txns measure.Counter
}

// txn counts the operations of a transaction that was carried out. ranges says that ranges were read, too.
func (c *Counts) txn(p *plan, ranges bool) {
	if c.ops(p, ranges) > 1 {
		c.Txns.Inc()
	}
}

// ops returns how many operations p has; of them it counts those that write does not.
func (c *Counts) ops(p *plan, ranges bool) int {
	n := len(p.ops) - len(p.nested)
	for i := range p.ops {
		if ranges && p.ops[i].Range != nil {
			c.Ranges.Inc()
		}
	}
	for _, nested := range p.nested {
		n += c.ops(nested, ranges)
	}
	return n
}

// Commands returns all commands, in no order.
func Commands() []Command {
	out := make([]Command, 0, len(commandNames))
	for c := range commandNames {
		out = append(out, c)
	}
	return out
}
