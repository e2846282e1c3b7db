package member

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// machine is what the consensus applies entries to: the present generation's
// state machine, with results going to the waiters.
type machine struct {
	m  *Member
	at stages // of what is being applied
}

func (x *machine) Apply(entries []*raftpb.Entry) error {
	start := x.m.cfg.Clock.Now()
	x.at = stages{committed: x.m.node.CommittedAt(), began: start}
	if err := x.m.gen.Load().machine.Apply(entries, x.m.waiters.has, x.deliver); err != nil {
		return err
	}
	took := x.m.cfg.Clock.Now().Sub(start)
	x.m.tallies.flush(x.m.measures.Applied, took, len(entries))
	if x.m.cfg.SlowApply > 0 && took > x.m.cfg.SlowApply {
		x.m.measures.SlowApplies.Inc()
		x.m.cfg.Logger.Warn("apply request took too long", "took", took, "expected-duration", x.m.cfg.SlowApply,
			"waited", start.Sub(x.at.committed), "entries", len(entries), "first", entries[0].GetIndex())
	}
	x.m.compactor.notify()
	x.m.quota.notify()
	x.m.versions.notify()
	return nil
}

func (x *machine) deliver(id uint64, r apply.Result) { x.m.waiters.deliverAt(id, r, x.at) }

// changed is given what each group of entries changed.
func (m *Member) changed(events []mvcc.Event) { m.hub.Publish(events) }

func (x *machine) CheckConfChange(e *raftpb.Entry) (*raftpb.ConfChange, error) {
	return x.m.gen.Load().machine.CheckConfChange(e)
}

func (x *machine) FinishConfChange(e *raftpb.Entry, cc *raftpb.ConfChange, cs *raftpb.ConfState) error {
	g := x.m.gen.Load()
	if err := g.machine.FinishConfChange(e, cc, cs, x.m.waiters.deliver); err != nil {
		return err
	}
	x.m.tellMembers(g)
	x.m.departure.notice(x.m, g)
	x.m.versions.ask()
	return nil
}

// Install swaps to the generation that was built from the received snapshot. It
// runs on the apply loop, so nothing is applied meanwhile.
func (x *machine) Install(snap *raftpb.Snapshot, commit func(generation uint64) error) error {
	g, err := x.m.incoming.take(snap.GetMetadata().GetIndex())
	if err != nil {
		return err
	}
	x.m.measures.Installing.Store(true)
	defer x.m.measures.Installing.Store(false)
	if err := commit(g.number); err != nil {
		return errors.Join(fmt.Errorf("make the log name the new state: %w", err), g.close()) // nobody else knows of it any more
	}
	x.m.serve(g)
	x.m.logins.reload() // first: a token of before must not be taken for one by the accounts of now
	old := x.m.gen.Swap(g)
	x.m.incoming.installed()
	x.m.tellMembers(g)
	x.m.departure.notice(x.m, g)
	x.m.hub.Reset()
	x.m.lessor.reload()
	x.m.versions.notify()
	x.m.compactor.notify()
	x.m.quota.notify()
	return x.m.retire(old)
}

func (x *machine) SnapshotDecided(index uint64, taken bool) { x.m.incoming.decided(index, taken) }

func (x *machine) SendSnapshot(m *raftpb.Message) { x.m.sendSnapshot(m) }
