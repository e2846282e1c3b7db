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
	if err := checkPut(&req.put); err != nil {
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
	if err := checkTxn(t, s.txnOpsMax); err != nil {
		return nil, err
	}
	if !t.ReadOnly() {
		if err := s.checkDeletion(ctx, deletions(t)...); err != nil {
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
