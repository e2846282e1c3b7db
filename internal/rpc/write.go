package rpc

import (
	"context"

	"github.com/ashlar-kv/ashlar/internal/apply"
)

// propose sends a checked request through the log and makes the response of its result.
func (s *KV) propose(ctx context.Context, c apply.Command, req *Request) (*Response, error) {
	res, err := s.member.Propose(ctx, c, req.raw)
	if err != nil {
		return nil, err
	}
	return s.respond(ctx, res.Revision, res.Body)
}

// Put answers a PutRequest.
func (s *KV) Put(ctx context.Context, req *Request) (*Response, error) {
	if err := s.member.CheckSpace(ctx, putCost(&req.put)); err != nil {
		return nil, err
	}
	if err := checkPut(&req.put); err != nil {
		return nil, err
	}
	if err := s.checkLease(&req.put); err != nil {
		return nil, err
	}
	return s.propose(ctx, apply.CommandPut, req)
}

// DeleteRange answers a DeleteRangeRequest.
func (s *KV) DeleteRange(ctx context.Context, req *Request) (*Response, error) {
	if err := checkDeleteRange(&req.del); err != nil {
		return nil, err
	}
	if len(req.del.RangeEnd) > 0 {
		if err := s.checkDeletion(ctx, &req.del); err != nil {
			return nil, err
		}
	}
	return s.propose(ctx, apply.CommandDeleteRange, req)
}

// Txn answers a TxnRequest. One that cannot write, whatever its compares say, does not go through the log.
func (s *KV) Txn(ctx context.Context, req *Request) (_ *Response, err error) {
	t := &req.txn
	if err := s.member.CheckSpace(ctx, txnCost(t)); err != nil {
		return nil, err
	}
	if err := checkTxn(t, s.txnOpsMax); err != nil {
		return nil, err
	}
	if !t.ReadOnly() {
		if err := s.checkDeletion(ctx, deletions(t)...); err != nil {
			return nil, err
		}
		if err := s.checkLeases(t); err != nil {
			return nil, err
		}
		return s.propose(ctx, apply.CommandTxn, req)
	}
	v, err := s.view(ctx, t.Serializable(), 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = closing(v, err) }()
	body, rev, err := apply.ReadTxn(v, t)
	if err != nil {
		return nil, err
	}
	return s.respond(ctx, rev, body)
}

// Compact answers a CompactionRequest; with physical it waits until the space is free.
func (s *KV) Compact(ctx context.Context, req *Request) (*Response, error) {
	res, err := s.member.Propose(ctx, apply.CommandCompaction, req.raw)
	if err != nil {
		return nil, err
	}
	if req.compact.Physical {
		if err := s.member.WaitCompacted(ctx, req.compact.Revision); err != nil {
			return nil, err
		}
	}
	return s.respond(ctx, res.Revision, res.Body)
}

// checkLease refuses a put on a lease that has too many keys.
func (s *KV) checkLease(p *apply.Put) error {
	if p.Lease == 0 {
		return nil
	}
	return s.member.LeaseHasRoom(p.Lease)
}

// checkLeases is checkLease for each put of a transaction.
func (s *KV) checkLeases(t *apply.Txn) error {
	for _, branch := range [2][]apply.Op{t.Success, t.Failure} {
		for i := range branch {
			var err error
			switch op := &branch[i]; {
			case op.Put != nil:
				err = s.checkLease(op.Put)
			case op.Txn != nil:
				err = s.checkLeases(op.Txn)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
