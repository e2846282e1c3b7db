package rpc

import (
	"context"
	"errors"
	"time"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/auth"
	"github.com/ashlar-kv/ashlar/internal/measure"
)

// propose sends a checked and admitted request through the log. It is admitted again when permissions changed on its way
// there: a request that apply refuses for that has changed nothing.
func (s *KV) propose(a admitted, c apply.Command, req *Request, need func(*auth.Judge) error) (apply.Result, error) {
	for {
		res, err := s.member.Propose(a.ctx, c, req.raw)
		if !errors.Is(err, auth.ErrOldRevision) || !a.moved() {
			return res, err
		}
		if a, err = s.gate.admit(a.ctx, need); err != nil {
			return res, err
		}
	}
}

// write is propose with the response of the result.
func (s *KV) write(a admitted, c apply.Command, req *Request, need func(*auth.Judge) error) (*Response, error) {
	res, err := s.propose(a, c, req, need)
	if err != nil {
		return nil, err
	}
	return s.respond(res.Revision, res.Body)
}

// Put answers a PutRequest.
func (s *KV) Put(ctx context.Context, req *Request) (*Response, error) {
	if err := s.member.CheckSpace(ctx, putCost(&req.put)); err != nil {
		return nil, err
	}
	if err := checkPut(&req.put); err != nil {
		return nil, err
	}
	need := func(j *auth.Judge) error { return apply.PermitPut(j, &req.put, s.gate.leaseKeys) }
	a, err := s.gate.admit(ctx, need)
	if err != nil {
		return nil, err
	}
	if err := s.checkLease(&req.put); err != nil {
		return nil, err
	}
	s.measures.cost(req.put.Key, len(req.raw))
	return s.write(a, apply.CommandPut, req, need)
}

// DeleteRange answers a DeleteRangeRequest.
func (s *KV) DeleteRange(ctx context.Context, req *Request) (*Response, error) {
	if err := checkDeleteRange(&req.del); err != nil {
		return nil, err
	}
	need := func(j *auth.Judge) error { return apply.PermitDeleteRange(j, &req.del) }
	a, err := s.gate.admit(ctx, need)
	if err != nil {
		return nil, err
	}
	if len(req.del.RangeEnd) > 0 {
		if err := s.checkDeletion(ctx, &req.del); err != nil {
			return nil, err
		}
		if err := s.checkAnswer(ctx, &req.del); err != nil {
			return nil, err
		}
	}
	s.measures.cost(req.del.Key, len(req.raw))
	return s.write(a, apply.CommandDeleteRange, req, need)
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
	need := func(j *auth.Judge) error { return apply.PermitTxn(j, t, s.gate.leaseKeys) }
	if !t.ReadOnly() {
		a, err := s.gate.admit(ctx, need)
		if err != nil {
			return nil, err
		}
		if err := s.checkDeletion(ctx, deletions(t)...); err != nil {
			return nil, err
		}
		if err := s.checkLeases(t); err != nil {
			return nil, err
		}
		if len(t.Success) > 0 {
			s.measures.cost(keyOf(&t.Success[0]), len(req.raw))
		}
		return s.write(a, apply.CommandTxn, req, need)
	}
	begin := time.Now()
	defer func() { s.measures.ReadOnlyTxns.Of(err).Took(time.Since(begin)) }()
	v, err := s.view(ctx, t.Serializable(), 0, need)
	if err != nil {
		return nil, err
	}
	defer func() { err = closing(v, err) }()
	measure.PhasesOf(ctx).Enter(measure.ReadingKeys)
	r := newResponse(s.budget)
	body, rev, err := apply.ReadTxn(ctx, v, t, &s.measures.Reads, r.hold(ctx))
	if err == nil {
		r.release(cap(body))
		r.header(s.header(rev))
		err = r.attach(body)
	}
	if err != nil {
		r.drop()
		return nil, err
	}
	return r, nil
}

// keyOf returns the key of an operation, nil for a transaction.
func keyOf(op *apply.Op) []byte {
	switch {
	case op.Put != nil:
		return op.Put.Key
	case op.DeleteRange != nil:
		return op.DeleteRange.Key
	case op.Range != nil:
		return op.Range.Key
	default:
		return nil
	}
}

// Compact answers a CompactionRequest; with physical it waits until the space is free.
func (s *KV) Compact(ctx context.Context, req *Request) (*Response, error) {
	a, err := s.gate.admit(ctx, admin)
	if err != nil {
		return nil, err
	}
	res, err := s.member.Propose(a.ctx, apply.CommandCompaction, req.raw)
	if err != nil {
		return nil, err
	}
	if req.compact.Physical {
		if err := s.member.WaitCompacted(ctx, req.compact.Revision); err != nil {
			return nil, err
		}
	}
	return s.respond(res.Revision, res.Body)
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
