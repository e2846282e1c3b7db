package member

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/consensus"
	"github.com/ashlar-kv/ashlar/internal/lease"
)

// ErrNotPrimary is returned by Renewal.Poll where this member does not watch over the leases: it is not the leader, or has
// only just become it. The leader is to be asked.
var ErrNotPrimary = errors.New("member: this member is not the leader that watches over the leases")

// Renewal is the renewal of one lease under way. It belongs to one goroutine.
type Renewal struct {
	l    *lessor
	id   int64
	term uint64
	read *consensus.ReadBatch
	// fast says that the renewal may go ahead before what was committed when it came is applied: a lease that is known is
	// there. One that is not known may have been granted just before.
	fast bool

	ttl   int64 // once decided
	clear bool  // a checkpoint is to be taken back
	err   error
}

// BeginLeaseRenew begins to renew a lease and does not wait for anything. Finish has the outcome; callers that step the member
// themselves poll.
func (m *Member) BeginLeaseRenew(id int64) Renewal {
	r := Renewal{l: &m.lessor, id: id, fast: m.cfg.FastLeaseKeepAlive}
	term, leads := m.node.Leads()
	if !leads || !m.lessor.primary(term) {
		r.err = ErrNotPrimary
		return r
	}
	r.term, r.read = term, m.node.BeginRead()
	return r
}

// Poll returns the outcome if there is one by now: the time to live in seconds, or lease.ErrNotFound, ErrNotPrimary, or an
// error of ReadBarrier. Without one, wait is what to wait for.
func (r *Renewal) Poll() (ttl int64, wait <-chan struct{}, err error) {
	for r.err == nil && r.ttl == 0 {
		wait := r.confirmation()
		select {
		case <-wait:
		default:
			return 0, wait, nil
		}
		if wait := r.decide(); wait != nil {
			return 0, wait, nil
		}
	}
	return r.ttl, nil, r.err
}

// decide is called when a quorum has answered; it returns what else to wait for.
func (r *Renewal) decide() (wait <-chan struct{}) {
	if r.err = readError(r.read.Failed()); r.err != nil {
		return nil
	}
	l := r.l
	l.mu.Lock()
	defer l.mu.Unlock()
	x, found := l.m.leases().Get(r.id)
	e := l.ending[r.id]
	switch {
	case l.term != r.term || !l.leads(r.term):
		r.err = ErrNotPrimary
	case !found && r.fast:
		r.fast = false // it may be among what is not applied yet
	case !found:
		r.err = lease.ErrNotFound
	case e != nil:
		return e.done // the end of it is in the log, if that succeeds
	default:
		l.m.measures.LeasesRenewed.Inc()
		x = l.m.raised(x)
		l.setLocked(r.id, l.now(), seconds(x.TTL))
		// A checkpoint that is not applied yet would take the renewal back at the next primary.
		_, proposed := l.checkpointing[r.id]
		r.ttl, r.clear = x.TTL, x.Remaining > 0 || proposed
	}
	return nil
}

// LeaseRenew gives a lease its full time to live again and returns that, in seconds. It passes by whatever clients have
// proposed and wait for. The error is lease.ErrNotFound, ErrTimeout, the context's, or one of ReadBarrier.
func (m *Member) LeaseRenew(ctx context.Context, id int64) (ttl int64, err error) {
	err = m.asPrimary(ctx, func(uint64) error {
		ttl, err = m.renewHere(ctx, id)
		return err
	}, func(ctx context.Context, urls []string) error {
		ttl, err = m.others.RenewLease(ctx, urls, id)
		return err
	})
	return ttl, err
}

// renewHere renews a lease that this member watches over, or returns ErrNotPrimary.
func (m *Member) renewHere(ctx context.Context, id int64) (ttl int64, err error) {
	r := m.BeginLeaseRenew(id)
	if err := r.Wait(ctx); err != nil || !r.clear {
		return r.ttl, err
	}
	return r.ttl, r.takeBack(ctx)
}

// Tell wakes w once there may be an outcome, as Ready says.
func (r *Renewal) Tell(w consensus.Waker) {
	if r.read == nil {
		w.Wake()
		return
	}
	r.read.Tell(w, r.fast)
}

// Ready says whether there may be an outcome: Poll has one, or waits for something rare.
func (r *Renewal) Ready() bool {
	if r.read == nil {
		return true
	}
	select {
	case <-r.confirmation():
		return true
	default:
		return false
	}
}

// confirmation is closed when a quorum has answered, and unless the renewal is fast what was committed by then is applied.
func (r *Renewal) confirmation() <-chan struct{} {
	if r.fast {
		return r.read.Confirmed()
	}
	return r.read.Done()
}

// Finish waits for the outcome and returns what LeaseRenew does.
func (r *Renewal) Finish(ctx context.Context) (ttl int64, err error) {
	err = r.Wait(ctx)
	if err == nil && r.clear {
		err = r.takeBack(ctx)
	}
	if errors.Is(err, ErrNotPrimary) {
		return r.l.m.LeaseRenew(ctx, r.id)
	}
	return r.ttl, err
}

// Decided says whether there is an outcome by now for which Finish has nothing more to do, and long whether there is one for which
// it has: it asks another member, or proposes something.
func (r *Renewal) Decided() (done, long bool) {
	if _, wait, _ := r.Poll(); wait != nil {
		return false, false
	}
	long = r.clear || errors.Is(r.err, ErrNotPrimary)
	return !long, long
}

// takeBack takes back what is checkpointed of the lease, before the answer: the next primary must not go by it. ErrNotPrimary says
// that the next primary may have gone by it already, so that it is to be asked.
func (r *Renewal) takeBack(ctx context.Context) error {
	p, release, err := r.beginTakeBack()
	if err != nil {
		return err
	}
	defer release()
	switch _, err := p.wait(ctx); {
	case errors.Is(err, ErrLeaderChanged):
		return ErrNotPrimary
	case err != nil:
		return err
	}
	r.l.cleared(r.term, r.id)
	return nil
}

// beginTakeBack proposes that nothing is checkpointed of the lease, before whatever clients propose: a renewal waits for it. It
// is an entry of the term that the renewal was decided in, or none: what is applied before the next primary begins, it goes by; in
// a later term it would come too late. release is to be called at the end.
func (r *Renewal) beginTakeBack() (p *Pending, release func(), err error) {
	l := r.l
	raw, err := proto.Marshal(&etcdserverpb.LeaseCheckpointRequest{Checkpoints: []*etcdserverpb.LeaseCheckpoint{{ID: r.id}}})
	if err != nil {
		return nil, nil, err
	}
	id, urgent := l.m.ids.next(), l.takenBack.Add(1) <= takenBackMax
	release = func() { l.takenBack.Add(-1) }
	if !urgent {
		release()
		release = func() {}
	}
	p, err = l.m.submit(id, apply.CommandLeaseCheckpoint, consensus.Proposal{
		Data: apply.Encode(apply.Header{ID: id}, apply.CommandLeaseCheckpoint, raw), Urgent: urgent, LeaderTerm: r.term,
	})
	if err != nil {
		release()
		return nil, nil, err
	}
	return p, release, nil
}

// cleared is told that the checkpoint of a lease that was just renewed is taken back. The next one is not due yet.
func (l *lessor) cleared(term uint64, id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term == term {
		delete(l.checkpointing, id)
	}
}

// Wait returns once Poll has an outcome, with the error of that, or with the context's or ErrStopped.
func (r *Renewal) Wait(ctx context.Context) error {
	for {
		_, wait, err := r.Poll()
		if wait == nil {
			return err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		case <-r.l.m.node.Done():
			return ErrStopped
		}
	}
}

// state returns the term in which this member is the primary and has all deadlines, 0 when it is not, and a channel closed
// when that changes.
func (l *lessor) state() (term uint64, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone != nil {
		return 0, l.changed
	}
	return l.term, l.changed
}
