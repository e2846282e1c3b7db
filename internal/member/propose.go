package member

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/auth"
	"github.com/ashlar-kv/ashlar/internal/consensus"
	"github.com/ashlar-kv/ashlar/internal/measure"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

var (
	// ErrTimeout is returned when a request was not decided within RequestTimeout.
	// It may still happen.
	ErrTimeout = errors.New("member: request timed out")
	// ErrTooManyRequests is returned when a request is refused because too many
	// wait. It had no effect.
	ErrTooManyRequests = consensus.ErrTooManyRequests
	// ErrRequestTooLarge is returned for a request whose log entry would be larger
	// than --max-request-bytes. It had no effect.
	ErrRequestTooLarge = errors.New("member: request is too large")
	// ErrLeaderChanged is returned to linearizable reads that waited while the
	// leader changed.
	ErrLeaderChanged = consensus.ErrLeaderChanged
	// ErrNoLeader is returned where a request demands a leader and none is known.
	ErrNoLeader = errors.New("member: no leader")
	// ErrStopped is returned for requests that waited when the member stopped, and
	// for later ones.
	ErrStopped = consensus.ErrStopped
)

// Propose puts a request into the log and waits until it is applied here. raw is
// the encoded request message that belongs to cmd; it is copied. Who asks is the context's
// Subject. The error is one of this package's, the context's, or Result.Err.
func (m *Member) Propose(ctx context.Context, cmd apply.Command, raw []byte) (apply.Result, error) {
	id := m.ids.next()
	data := apply.Encode(headerOf(id, Subject(ctx)), cmd, raw)
	if uint64(len(data)) > m.cfg.MaxRequestBytes {
		return apply.Result{}, ErrRequestTooLarge
	}
	p, err := m.submit(id, cmd, consensus.Proposal{Data: data, MayTurn: true})
	if err != nil {
		return apply.Result{}, err
	}
	return p.wait(ctx)
}

// Begin is Propose without the waiting, for callers that step the member
// themselves.
func (m *Member) Begin(cmd apply.Command, raw []byte) (*Pending, error) {
	id := m.ids.next()
	return m.begin(id, cmd, apply.Encode(apply.Header{ID: id}, cmd, raw))
}

// Pending is a proposal under way.
type Pending struct {
	m   *Member
	w   waiter
	p   consensus.Proposal
	cmd apply.Command // 0 for a change of the configuration
}

// Poll returns the result if there is one by now. It gives it once.
func (p *Pending) Poll() (r apply.Result, ok bool) {
	select {
	case r = <-p.w.out:
		return r, true
	default:
		return apply.Result{}, false
	}
}

func (m *Member) begin(id uint64, cmd apply.Command, data []byte) (*Pending, error) {
	return m.submit(id, cmd, consensus.Proposal{Data: data})
}

// beginUrgent is Begin for what s asks for and goes before the requests of clients.
func (m *Member) beginUrgent(s auth.Subject, cmd apply.Command, raw []byte) (*Pending, error) {
	id := m.ids.next()
	return m.submit(id, cmd, consensus.Proposal{Data: apply.Encode(headerOf(id, s), cmd, raw), Urgent: true})
}

func headerOf(id uint64, s auth.Subject) apply.Header {
	return apply.Header{ID: id, Username: s.User, AuthRevision: s.Revision}
}

// submit proposes p, whose request has the given id, with a waiter.
func (m *Member) submit(id uint64, cmd apply.Command, proposal consensus.Proposal) (*Pending, error) {
	p := &Pending{m: m, p: proposal, cmd: cmd}
	m.waiters.register(&p.w, id, m.cfg.Clock.Now().Add(m.cfg.RequestTimeout))
	p.p.Fail, p.p.Cancelled = p.fail, p.w.gone.Load
	if err := m.node.Propose(&p.p); err != nil {
		m.waiters.release(&p.w)
		m.measures.ProposalsFailed.Inc()
		return nil, err
	}
	return p, nil
}

func (p *Pending) fail(err error) { p.m.waiters.deliver(p.w.id, apply.Result{Err: err}) }

// proposed is when the waiter was made, just before the proposal.
func (p *Pending) proposed() time.Time { return p.w.deadline.Add(-p.m.cfg.RequestTimeout) }

func (p *Pending) wait(ctx context.Context) (r apply.Result, err error) {
	defer func() { p.measure(&r, err) }()
	phases := measure.PhasesOf(ctx)
	phases.At(measure.Replicating, p.proposed()) // it may be under way, and even done, by now
	defer func() { p.tell(phases, r.Index != 0) }()
	select {
	case r = <-p.w.out:
		outs.Put(p.w.out) // nothing comes after the result
		if errors.Is(r.Err, ErrTimeout) {
			r.Err = p.m.explain(p.proposed())
		}
		return r, r.Err
	case <-ctx.Done():
		p.m.waiters.release(&p.w)
		return apply.Result{}, ctx.Err()
	}
}

// tell says where the time of the wait went. REQUIRES: it has ended, by a result if applied.
func (p *Pending) tell(phases *measure.Phases, applied bool) {
	if applied && !p.w.at.began.IsZero() {
		phases.At(measure.Queueing, p.w.at.committed)
		phases.At(measure.Applying, p.w.at.began)
	}
	phases.Enter(measure.Answering)
}

// measure counts how the wait has ended. A result has the index of its entry, whether it is a refusal or not.
func (p *Pending) measure(r *apply.Result, err error) {
	x := p.m.measures
	if err != nil && r.Index == 0 {
		x.ProposalsFailed.Inc()
	} else {
		err = nil
	}
	if o := x.Requests[p.cmd]; o != nil {
		o.Of(err).Took(p.m.cfg.Clock.Now().Sub(p.w.deadline.Add(-p.m.cfg.RequestTimeout)))
	}
}

// ReadBarrier returns once a read of the state is linearizable: everything that
// was committed when it was called is applied here.
func (m *Member) ReadBarrier(ctx context.Context) error {
	if m.node.SoleRead() {
		return nil
	}
	phases := measure.PhasesOf(ctx)
	phases.Enter(measure.Confirming)
	err := m.node.ReadBarrier(ctx)
	phases.Enter(measure.Checking)
	return readError(err)
}

// readError returns the error of ReadBarrier for that of a read.
func readError(err error) error {
	if errors.Is(err, consensus.ErrReadTimeout) {
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	return err
}

// View opens the state at a revision; 0 or less means the newest. The caller
// closes it; Stop waits for that. Errors: mvcc.ErrCompacted, mvcc.ErrFutureRevision, ErrStopped.
func (m *Member) View(rev int64) (*mvcc.View, error) {
	for {
		v, err := m.gen.Load().store.View(rev)
		if !errors.Is(err, mvcc.ErrRetired) {
			return v, err
		}
		if m.gone.Load() {
			return nil, ErrStopped
		}
	}
}

// Newest is mvcc.Store.Newest of the state: a range of one key from memory, if it is there.
func (m *Member) Newest(o mvcc.RangeOptions) (kv mvcc.KV, res mvcc.RangeResult, ok bool) {
	return m.gen.Load().store.Newest(o)
}

// WaitCompacted returns once the space of everything compacted up to rev is given
// back physically.
func (m *Member) WaitCompacted(ctx context.Context, rev int64) error {
	measure.PhasesOf(ctx).Enter(measure.Compacting)
	m.compactor.notify()
	return m.compactor.wait(ctx, m.node.Done())
}
