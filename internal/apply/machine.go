package apply

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/auth"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/invariant"
	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// Bounds of a group: it is one batch and is visible as a whole. A small entry may delete or read a lot, so a group also
// ends once what it writes, or what it has to answer, is above groupEffectMax. Where groups end has no effect on what
// entries do.
const (
	groupEntriesMax = 512
	groupBytesMax   = 1 << 20
	groupEffectMax  = 8 << 20
)

// Machine is the state machine of one state. One goroutine at a time calls it.
type Machine struct {
	store     *mvcc.Store
	members   *cluster.Membership
	leases    *lease.Table
	alarms    *cluster.Alarms
	accounts  *auth.Table
	chain     *Chain
	published func([]mvcc.Event)
	counts    *Counts
	carried   func(Command, error)
	// learnersMax bounds the learners of the cluster.
	learnersMax int
	// mayHangOnNothing is the newest revision whose versions may name a lease on which their keys do not hang: all that were there at
	// the start, and those that kept one that is gone.
	mayHangOnNothing int64

	results     []waiting // a group's, kept for its memory
	confRefused error     // why the configuration change that is under way was refused
}

// Parts are what a machine changes: all of them of one state.
type Parts struct {
	Store   *mvcc.Store
	Members *cluster.Membership
	Leases  *lease.Table
	Alarms  *cluster.Alarms
	// Accounts are the users, roles and permissions.
	Accounts *auth.Table
	// Chain is the chained hash of the effects; nil when nobody compares it.
	Chain *Chain
	// Published is given the changes of each group of entries once readers see them, before anyone has a result. It
	// must not block. The slice is the machine's again when it returns; copies of what is in it may be kept. nil when nobody wants them.
	Published func([]mvcc.Event)
	// Counts are added to; nil when nobody wants them.
	Counts *Counts
	// Carried is told of each command that was carried out, with its refusal, before its effect is visible. It must not
	// block. nil when nobody wants to know.
	Carried func(c Command, refusal error)
	// MaxLearners is --max-learners. As in etcd it decides at apply, so it must be the same for all members.
	MaxLearners int
}

// New makes the machine that changes the parts.
func New(p Parts) *Machine {
	if p.Published == nil {
		p.Published = func([]mvcc.Event) {}
	}
	if p.Counts == nil {
		p.Counts = new(Counts)
	}
	if p.Carried == nil {
		p.Carried = func(Command, error) {}
	}
	return &Machine{
		counts: p.Counts, carried: p.Carried,
		store: p.Store, members: p.Members, leases: p.Leases, alarms: p.Alarms, accounts: p.Accounts, chain: p.Chain,
		published: p.Published, learnersMax: p.MaxLearners, mayHangOnNothing: p.Store.Revision(),
	}
}

// Apply applies consecutive normal entries. wanted says whether anyone here waits for
// the result of a request; done gives it to them, after the entry's effect is
// visible. Entries that the state already has are passed over. An error is final: see
// the package.
func (m *Machine) Apply(entries []*raftpb.Entry, wanted func(id uint64) bool, done func(id uint64, r Result)) error {
	applied, _ := m.store.Applied()
	for len(entries) > 0 && entries[0].GetIndex() <= applied {
		entries = entries[1:]
	}
	for len(entries) > 0 {
		n, size := 0, 0
		for n < len(entries) && n < groupEntriesMax && (n == 0 || size+len(entries[n].GetData()) <= groupBytesMax) {
			size += len(entries[n].GetData())
			n++
		}
		n, err := m.group(entries[:n], wanted, done)
		if err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

// group is a run of entries that share a batch.
type group struct {
	m           *Machine
	w           *mvcc.Writer
	members     *cluster.Change      // nil until an entry changes the membership
	leaseChange *lease.Change        // nil until an entry asks for a lease or changes one
	alarmChange *cluster.AlarmChange // nil until an entry is looked at
	authChange  *auth.Change         // nil until an entry is looked at
	chained     chained
	results     []waiting
	answers     int   // bytes in results
	unread      error // the present entry did its writes, but could not answer all it was asked
}

type waiting struct {
	id uint64
	r  Result
}

// full says that the group should end, whatever entries are left.
func (g *group) full() bool { return g.answers > groupEffectMax || g.w.Batch().Len() > groupEffectMax }

// group applies entries as one batch, or the first of them when they do too much, and returns how many.
func (m *Machine) group(entries []*raftpb.Entry, wanted func(uint64) bool, done func(uint64, Result)) (n int, err error) {
	g := group{m: m, w: m.store.NewWriter(), results: m.results[:0], chained: m.chain.extend()}
	defer g.closeLeases()
	defer g.closeAccounts()
	if err := g.readAhead(entries, wanted); err != nil {
		g.w.Discard()
		return 0, fmt.Errorf("read ahead: %w", err)
	}
	next, _ := m.store.Applied()
	for n < len(entries) && !g.full() {
		e := entries[n]
		if next++; e.GetIndex() != next {
			g.w.Discard()
			return 0, fmt.Errorf("%w: entry %d where %d should follow", ErrGap, e.GetIndex(), next)
		}
		before := g.w.Batch().Len()
		if err := g.apply(e, wanted); err != nil {
			g.w.Discard()
			return 0, fmt.Errorf("entry %d: %w", e.GetIndex(), err)
		}
		n++
		g.chained.entry(e.GetIndex(), e.GetTerm(), g.w.Revision(), g.w.CompactRevision(), effect(g.w.Batch(), before))
	}
	if err := g.chained.store(g.w.Batch()); err != nil {
		g.w.Discard()
		return 0, err
	}
	last := entries[n-1]
	g.w.SetApplied(last.GetIndex(), last.GetTerm())
	if g.authChange != nil {
		g.authChange.Announce()
	}
	if err := g.w.Commit(); err != nil {
		return 0, fmt.Errorf("commit the effect of entries %d to %d: %w", entries[0].GetIndex(), last.GetIndex(), err)
	}
	g.publish()
	for _, x := range g.results {
		done(x.id, x.r)
	}
	clear(g.results)
	m.results = g.results
	return n, nil
}

// publish makes the group's effect visible. REQUIRES: it was committed.
func (g *group) publish() {
	g.chained.publish()
	if g.members != nil {
		g.members.Publish()
	}
	if g.leaseChange != nil {
		g.leaseChange.Publish()
	}
	if g.alarmChange != nil {
		g.alarmChange.Publish()
	}
	if g.authChange != nil {
		g.authChange.Publish()
	}
	if events := g.w.Events(); len(events) > 0 {
		g.m.published(events)
	}
	g.w.Release()
}

// apply applies one normal entry.
func (g *group) apply(e *raftpb.Entry, wanted func(uint64) bool) error {
	if len(e.GetData()) == 0 {
		return nil // opens a term
	}
	header, cmd, raw, err := Decode(e.GetData())
	if err != nil {
		return err
	}
	want := wanted(header.ID)
	g.unread = nil
	g.w.Begin()
	before := len(g.w.Events())
	r, err := g.runAs(header, e.GetIndex(), cmd, raw, want)
	if err != nil {
		return err
	}
	events := g.w.Events()[before:]
	if err := g.attach(events); err != nil {
		return err
	}
	if err := g.checkLeases(events); err != nil {
		return err
	}
	g.m.carried(cmd, r.Err)
	rev, changed := g.w.End()
	invariant.Check(r.Err == nil || !changed, "entry %d was refused (%v) and changed something", e.GetIndex(), r.Err)
	if want {
		if r.Err == nil {
			r.Err = g.unread
		}
		r.Index, r.Term, r.Revision = e.GetIndex(), e.GetTerm(), rev
		g.results = append(g.results, waiting{header.ID, r})
		g.answers += len(r.Body)
	}
	return nil
}

// runAs carries a command out unless an alarm or what its user lacks forbids it. A refusal is in the result.
func (g *group) runAs(h Header, index uint64, cmd Command, raw []byte, want bool) (Result, error) {
	if err := g.alarmed(cmd, raw); err != nil {
		return Result{Err: err}, nil
	}
	err := g.permitted(h, cmd, raw)
	var body []byte
	if err == nil {
		body, err = g.run(index, cmd, raw, want)
	}
	if refused(err) {
		return Result{Err: err}, nil
	}
	return Result{Body: body}, err
}

// run is the switch over all commands.
func (g *group) run(index uint64, cmd Command, raw []byte, want bool) (body []byte, err error) {
	switch cmd {
	case CommandV2:
		err = g.v2(raw)
	case CommandPut:
		body, err = g.put(raw, want)
	case CommandDeleteRange:
		body, err = g.deleteRange(raw, want)
	case CommandTxn:
		body, err = g.txn(raw, want)
	case CommandCompaction:
		err = g.compact(raw)
	case CommandLeaseGrant:
		body, err = g.leaseGrant(raw)
	case CommandLeaseRevoke:
		err = g.leaseRevoke(raw)
	case CommandLeaseCheckpoint:
		err = g.leaseCheckpoint(raw)
	case CommandAlarm:
		body, err = g.alarm(raw)
	case CommandClusterVersionSet:
		err = g.setClusterVersion(raw)
	case CommandClusterMemberAttrSet:
		err = g.setMemberAttributes(raw)
	case CommandDowngradeInfoSet:
		err = g.setDowngrade(raw)
	case CommandRange, CommandAuthStatus, CommandAuthUserGet, CommandAuthUserList,
		CommandAuthRoleList, CommandAuthRoleGet, CommandDowngradeVersionTest:
		// etcd logs some reads; they change nothing.
	default:
		var known bool
		if body, known, err = g.auth(cmd, raw, index); !known {
			return nil, fmt.Errorf("%w: %s", ErrUnknownCommand, cmd)
		}
	}
	return body, err
}

// refused says whether an error is a command's result and not the machine's end.
func refused(err error) bool {
	if err == nil {
		return false
	}
	for _, r := range []error{
		ErrKeyNotFound, ErrEmptyKey, mvcc.ErrCompacted, mvcc.ErrFutureRevision,
		lease.ErrNotFound, lease.ErrExists, lease.ErrTTLTooLarge,
	} {
		if errors.Is(err, r) {
			return true
		}
	}
	return auth.IsRefusal(err)
}

func (g *group) compact(raw []byte) error {
	c, err := ParseCompact(raw)
	if err != nil {
		return err
	}
	if err := g.w.ScheduleCompact(c.Revision); err != nil {
		return err
	}
	g.m.counts.did(1, 0) // etcd asks its store for the revision by a range
	return nil
}

// change returns the group's change of the membership.
func (g *group) change() *cluster.Change {
	if g.members == nil {
		g.members = g.m.members.Begin(g.w.Batch())
	}
	return g.members
}
