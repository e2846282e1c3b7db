package rpc

import (
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ashlar-kv/ashlar/internal/apply"
)

// The checks of this file and of duplicates.go are etcd's, in etcd's order: the first error found is the one told. They
// stand before the log, so they may neither let pass what etcd refuses nor refuse what etcd takes.

// What RangeStream does not do, in etcd's words.
var (
	errStreamFilters = status.Error(codes.Unimplemented, "RangeStream does not support revision filters")
	errStreamSort    = status.Error(codes.Unimplemented, "RangeStream does not support custom sort orders")
)

func checkRange(r *apply.Range) error {
	if len(r.Key) == 0 {
		return rpctypes.ErrGRPCEmptyKey
	}
	_, order := etcdserverpb.RangeRequest_SortOrder_name[int32(r.SortOrder)]
	_, target := etcdserverpb.RangeRequest_SortTarget_name[int32(r.SortTarget)]
	if !order || !target {
		return rpctypes.ErrGRPCInvalidSortOption
	}
	return nil
}

// checkRangeStream is checkRange and what a stream does not do. Without an order any target will do: the
// order is that of the keys.
func checkRangeStream(r *apply.Range) error {
	if err := checkRange(r); err != nil {
		return err
	}
	const none, ascend = int32(etcdserverpb.RangeRequest_NONE), int32(etcdserverpb.RangeRequest_ASCEND)
	byKey := r.SortTarget == int32(etcdserverpb.RangeRequest_KEY)
	if r.SortOrder != none && (r.SortOrder != ascend || !byKey) {
		return errStreamSort
	}
	if r.MinMod != 0 || r.MaxMod != 0 || r.MinCreate != 0 || r.MaxCreate != 0 {
		return errStreamFilters
	}
	return nil
}

func checkPut(p *apply.Put) error {
	switch {
	case len(p.Key) == 0:
		return rpctypes.ErrGRPCEmptyKey
	case p.IgnoreValue && len(p.Value) > 0:
		return rpctypes.ErrGRPCValueProvided
	case p.IgnoreLease && p.Lease != 0:
		return rpctypes.ErrGRPCLeaseProvided
	}
	return nil
}

func checkDeleteRange(d *apply.DeleteRange) error {
	if len(d.Key) == 0 {
		return rpctypes.ErrGRPCEmptyKey
	}
	return nil
}

// checkTxn checks a transaction with all that is nested in it.
func checkTxn(t *apply.Txn, opsMax int) error {
	if err := checkOps(t, opsMax); err != nil {
		return err
	}
	return checkDuplicates(t)
}

// checkOps checks the lists of t. The longest of them is taken off the limit of transactions nested in t: with opsMax
// 128 a transaction of one operation may hold one of 127. So the depth is bounded too.
func checkOps(t *apply.Txn, opsMax int) error {
	longest := max(len(t.Compare), len(t.Success), len(t.Failure))
	if longest > opsMax {
		return rpctypes.ErrGRPCTooManyOps
	}
	for i := range t.Compare {
		if len(t.Compare[i].Key) == 0 {
			return rpctypes.ErrGRPCEmptyKey
		}
	}
	for _, branch := range [2][]apply.Op{t.Success, t.Failure} {
		for i := range branch {
			if err := checkOp(&branch[i], opsMax-longest); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkOp(o *apply.Op, opsMax int) error {
	switch {
	case o.Range != nil:
		return checkRange(o.Range)
	case o.Put != nil:
		return checkPut(o.Put)
	case o.DeleteRange != nil:
		return checkDeleteRange(o.DeleteRange)
	case o.Txn != nil:
		return checkOps(o.Txn, opsMax)
	default:
		// An operation that asks for nothing.
		return rpctypes.ErrGRPCKeyNotFound
	}
}
