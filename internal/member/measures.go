package member

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/consensus"
	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/measure"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Measures are what a member counts. They may be read at any time; the maps never change.
type Measures struct {
	// Applied are the times of applying each command, refusals apart: those of a group of entries are shared out evenly.
	Applied map[apply.Command]*measure.Outcomes
	// Requests are the times from a proposal to its result; a refusal is a result.
	Requests map[apply.Command]*measure.Outcomes
	// SlowApplies counts groups of entries that took longer than Config.SlowApply.
	SlowApplies measure.Counter
	// ProposalsFailed counts proposals without a result.
	ProposalsFailed measure.Counter
	// Operations are what was applied.
	Operations *apply.Counts
	// State are the times of the state's database.
	State *storage.Measures

	// LeasesGranted, LeasesRevoked, LeasesRenewed and LeasesExpired count leases; the last two only at the primary.
	LeasesGranted, LeasesRevoked, LeasesRenewed, LeasesExpired measure.Counter
	// LeaseTTLs are the times to live of leases granted, in seconds.
	LeaseTTLs *measure.Histogram

	// Compactions are the times from the first slice of a compaction to the last, CompactionSlices those of single slices,
	// during which a writer may have to wait.
	Compactions, CompactionSlices *measure.Histogram
	// CompactionEnded is when the last compaction ended, in Unix seconds; 0 for never.
	CompactionEnded atomic.Int64

	// Hashes and RevisionHashes are the times of Hash and HashKV, Defragments and Exports those of Defragment and of making a
	// database file.
	Hashes, RevisionHashes, Defragments, Exports *measure.Histogram
	// Defragmenting, Installing are whether a defragmentation and the installation of a received snapshot are under way.
	Defragmenting, Installing atomic.Bool
	// SnapshotsBuilt are the times of receiving a snapshot and making a state of it, SnapshotsSynced those of its last sync.
	SnapshotsBuilt, SnapshotsSynced *measure.Histogram
	// Promoted counts learners that this member promoted as the leader, PromotionsRefused those that it refused to.
	Promoted, PromotionsRefused measure.Counter
}

func newMeasures() *Measures {
	disk, long := measure.Durations(time.Millisecond, 14), measure.Durations(10*time.Millisecond, 15)
	x := &Measures{
		Applied:  make(map[apply.Command]*measure.Outcomes),
		Requests: make(map[apply.Command]*measure.Outcomes), Operations: new(apply.Counts), State: storage.NewMeasures(),
		LeaseTTLs:        measure.NewHistogram(measure.Exponential(1, 24)),
		Compactions:      measure.NewHistogram(measure.Durations(100*time.Millisecond, 14)),
		CompactionSlices: measure.NewHistogram(measure.Durations(time.Millisecond, 13)),
		Hashes:           measure.NewHistogram(long), RevisionHashes: measure.NewHistogram(long),
		Defragments:     measure.NewHistogram(measure.Durations(100*time.Millisecond, 13)),
		Exports:         measure.NewHistogram(measure.Durations(10*time.Millisecond, 17)),
		SnapshotsBuilt:  measure.NewHistogram(measure.Durations(100*time.Millisecond, 10)),
		SnapshotsSynced: measure.NewHistogram(disk),
	}
	applied := measure.Durations(100*time.Microsecond, 20)
	for _, c := range apply.Commands() {
		x.Applied[c], x.Requests[c] = measure.NewOutcomes(applied), measure.NewOutcomes(disk)
	}
	return x
}

// Measures returns the member's.
func (m *Member) Measures() *Measures { return m.measures }

// Waiting returns how many proposals wait for their results.
func (m *Member) Waiting() int { return m.waiters.count() }

// leasesChanged counts changes of the leases.
func (x *Measures) leasesChanged(c lease.Changed) {
	x.LeasesGranted.Add(uint64(len(c.Granted)))
	x.LeasesRevoked.Add(uint64(len(c.Revoked)))
	for _, l := range c.Granted {
		x.LeaseTTLs.Observe(l.TTL)
	}
}

// tallies count the commands of a group of entries. They belong to the apply loop.
type tallies struct {
	common [apply.CommandLeaseCheckpoint + 1]tally // by command
	others map[apply.Command]*tally                // further commands of the present group
}

type tally struct{ done, refused uint64 }

// add counts a command.
func (t *tallies) add(c apply.Command, refusal error) {
	var x *tally
	if int(c) < len(t.common) {
		x = &t.common[c]
	} else if x = t.others[c]; x == nil {
		x = new(tally)
		if t.others == nil {
			t.others = make(map[apply.Command]*tally)
		}
		t.others[c] = x
	}
	if refusal == nil || errors.Is(refusal, mvcc.ErrCompacted) { // as in etcd
		x.done++
	} else {
		x.refused++
	}
}

// flush shares out the time of a group and begins a new one.
func (t *tallies) flush(to map[apply.Command]*measure.Outcomes, took time.Duration, entries int) {
	share := int64(took) / int64(max(1, entries))
	for c := range t.common {
		if x := &t.common[c]; *x != (tally{}) {
			x.observe(to[apply.Command(c)], share)
		}
	}
	for c, x := range t.others {
		x.observe(to[c], share)
	}
	clear(t.others)
}

func (x *tally) observe(to *measure.Outcomes, share int64) {
	if x.done > 0 {
		to.Succeeded.ObserveMany(share, x.done)
	}
	if x.refused > 0 {
		to.Failed.ObserveMany(share, x.refused)
	}
	*x = tally{}
}

// StateStats returns numbers of the state's database and of the store in it.
func (m *Member) StateStats() (db storage.Metrics, keys mvcc.Stats) {
	_ = m.held(func(g *generation) error { // it returns what the function does
		db, keys = g.db.Metrics(), g.store.Stats()
		return nil
	})
	keys.Users-- // this look
	return db, keys
}

// Progress asks raft how far another member is. Errors are ErrNotLeader, ErrStopped and the context's.
func (m *Member) Progress(ctx context.Context, id uint64) (consensus.Progress, error) {
	return m.progress(ctx, id)
}
