package member

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// Bounds of what a restart has to replay. Flushes also happen whenever a memtable
// is full.
const (
	// flushEntries is how many entries may be applied beyond the durable ones.
	flushEntries = 50_000
	// flushAge is how long an applied entry may stay in memory alone.
	flushAge = 5 * time.Minute
	// durabilityCheck is how often the two are looked at.
	durabilityCheck = time.Second
)

// durability keeps the distance between the applied and the durable state
// small, and cuts the log below what is durable.
type durability struct {
	m       *Member
	flushed chan struct{} // capacity 1: a flush of the state has ended
	hold    atomic.Bool   // the log is not to be cut
	// receivers need what follows their snapshots, as long as the log has fewer bytes than logMax says for a state.
	receivers receivers
	logMax    func(stateBytes uint64) uint64
	// absent need what they do not have, as long as that has fewer bytes than absentLog says.
	absent absent

	spared   bool      // others kept the last cut from cutting all
	durable  uint64    // newest durable applied index known
	lastTime time.Time // when durable was last brought up to applied
}

func (d *durability) init(m *Member, durable uint64) {
	d.m, d.durable, d.logMax = m, durable, receiverLog
	d.lastTime = m.cfg.Clock.Now()
}

// onFlush is called by the state database after each flush. It must not block.
func (d *durability) onFlush() {
	select {
	case d.flushed <- struct{}{}:
	default:
	}
}

func (d *durability) run() {
	ticker := d.m.cfg.Clock.NewTicker(durabilityCheck)
	defer ticker.Stop()
	err := d.cut() // all that was applied before this start is durable
	for err == nil {
		select {
		case <-d.flushed:
			err = d.cut()
		case now := <-ticker.C():
			err = d.tick(now)
		case <-d.m.stop:
			return
		}
	}
	d.m.fatal(err)
}

// tick flushes the state when that is due, and cuts what others do not need any more: on a quiet cluster no flush comes soon. It also
// looks who is there, and after a state that was received for nothing.
func (d *durability) tick(now time.Time) error {
	d.m.discardRefused()
	d.look()
	if err := d.flushIfDue(now); err != nil || !d.spared {
		return err
	}
	return d.cut()
}

func (d *durability) flushIfDue(now time.Time) error {
	behind := d.m.node.Applied() - d.durable
	if behind == 0 {
		d.lastTime = now
		return nil
	}
	if behind < flushEntries && now.Sub(d.lastTime) < flushAge {
		return nil
	}
	d.lastTime = now
	if err := d.m.Flush(); err != nil {
		return fmt.Errorf("flush the state: %w", err)
	}
	return nil
}

// cut reads how far the state is durable and cuts the log below it, leaving
// what followers that are a little behind (catchUp) and others need.
func (d *durability) cut() error { return d.cutUpTo(d.m.node.Settled()) }

// cutUpTo is cut, but not above settled.
func (d *durability) cutUpTo(settled uint64) error {
	var durable, stateBytes uint64
	err := d.m.held(func(g *generation) (err error) {
		durable, err = mvcc.DurableApplied(g.db)
		stateBytes = g.db.Metrics().LiveBytes
		return err
	})
	if err != nil {
		return err
	}
	if durable > d.durable {
		d.durable, d.lastTime = durable, d.m.cfg.Clock.Now()
	}
	if d.hold.Load() {
		return nil
	}
	to := d.spare(d.m.catchUp(min(d.durable, settled)), stateBytes)
	if !d.worthCutting(to) {
		return nil
	}
	cut := d.m.log.Cut
	if d.empties(to) {
		cut = d.m.log.CutAll
	}
	if err := cut(to); err != nil {
		return fmt.Errorf("cut the log up to %d: %w", to, err)
	}
	return nil
}

// worthCutting says whether a cut frees enough: one of a few entries at a time would cost more than that.
func (d *durability) worthCutting(to uint64) bool {
	first := d.m.log.FirstIndex()
	if to < first {
		return false
	}
	if to-first > d.m.cfg.SnapshotCatchUpEntries/4 || d.empties(to) {
		return true
	}
	// The log may grow between the two.
	return d.m.cfg.KeepLogForAbsent && d.m.log.BytesFrom(first) >= d.m.log.BytesFrom(to+1)+d.m.cfg.CatchUpBytes/4
}

// catchUpBytes is Config.CatchUpBytes where that is not set: as much as is on its way to a member at a time. What is not durable yet comes
// on top of it.
const catchUpBytes = 32 << 20

// catchUp returns above which entry the log is kept for members that are a little behind the one at index.
func (m *Member) catchUp(index uint64) uint64 {
	above := index - min(index, m.cfg.SnapshotCatchUpEntries)
	switch {
	case !m.cfg.KeepLogForAbsent:
		return above
	case m.onlyMember(): // one that is added gets a snapshot first
		return index
	default: // everybody who is known to need more has it kept
		return max(above, min(index, m.log.Within(m.cfg.CatchUpBytes)-1))
	}
}

// onlyMember says whether this is the only member, and there is none that has not started yet either.
func (m *Member) onlyMember() bool {
	all := m.Members().Members()
	return len(all) == 1 && all[0].ID == m.self()
}

// emptyBytes are more than the segment takes that an emptied log begins with.
const emptyBytes = 1 << 20

// empties says whether a cut leaves nothing of a log that is worth it. A disk without room for another segment would end the member.
func (d *durability) empties(to uint64) bool {
	return to == d.m.log.LastIndex() && d.m.log.WorthEmptying() && d.m.roomFor(emptyBytes) == nil
}

// rest leaves nothing in the log of an only member that stops, so that its next start has next to nothing to read. REQUIRES: neither
// the loop nor the node runs any more.
func (d *durability) rest() error {
	m := d.m
	if !m.cfg.KeepLogForAbsent || !m.onlyMember() || m.Trusted() != nil || !m.log.WorthEmptying() || m.log.Err() != nil {
		return nil
	}
	if m.Flush() != nil {
		return nil // closing the state fails for the same reason, and says so
	}
	return d.cutUpTo(m.node.Applied())
}

// spareBytes is what the disk must have free for the log to be kept for others: they can have a snapshot, and a member without
// space ends.
const spareBytes = 512 << 20

// spare lowers where the log is to be cut to what others need, unless it is too large for that or the disk is nearly full.
func (d *durability) spare(to, stateBytes uint64) uint64 {
	need := to
	if at, any := d.receivers.need(d.m.cfg.Clock.Now()); any && d.m.log.Metrics().DiskBytes < d.logMax(stateBytes) {
		need = min(need, at)
	}
	need = min(need, d.forAbsent(to, stateBytes))
	d.spared = need < to && d.m.roomFor(spareBytes) == nil
	if d.spared {
		return need
	}
	return to
}

// forAbsent lowers it for members that are away. The receivers of snapshots are not: they need what follows those.
func (d *durability) forAbsent(to, stateBytes uint64) uint64 {
	d.look()
	most := absentLog(stateBytes)
	return d.absent.above(to, d.m.log.Mark().Index,
		func(from uint64) bool { return d.m.log.BytesFrom(from) >= most },
		func(id cluster.ID) bool { return d.receivers.has(uint64(id)) })
}

func (d *durability) look() {
	if d.m.cfg.KeepLogForAbsent {
		d.absent.look(d.m)
	}
}
