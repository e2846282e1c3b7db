package rpc

import (
	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// The cost of a request is about by how much it can make the state grow: what the quota must have room for. As in etcd the
// quota is asked before anything else is checked, and a request that puts nothing costs nothing: deleting is always
// possible, though its tombstones take space.

func putCost(p *apply.Put) int64 { return mvcc.VersionBytes(len(p.Key), len(p.Value)) }

// txnCost returns what the branch that costs more does.
func txnCost(t *apply.Txn) int64 { return max(branchCost(t.Success), branchCost(t.Failure)) }

func branchCost(ops []apply.Op) (cost int64) {
	for i := range ops {
		switch op := &ops[i]; {
		case op.Put != nil:
			cost += putCost(op.Put)
		case op.Txn != nil:
			cost += txnCost(op.Txn)
		}
	}
	return cost
}
