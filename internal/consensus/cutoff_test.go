package consensus

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// TestALeaderThatIsCutOffFromItsMajorityStepsDown: who asks it would wait for as long as the network is divided otherwise, and it would go on to
// decide by the clock what another leader decides by now.
func TestALeaderThatIsCutOffFromItsMajorityStepsDown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		heard uint64
		leads bool
	}{
		"it hears of nobody":      {raft.None, false},
		"it hears of a learner":   {4, false},
		"it hears of a voter yet": {3, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, vfs.NewMem(), 1, 2, 3)
			f.elect()
			f.change(raftpb.ConfChangeAddLearnerNode, 4)
			f.run()
			f.from(2, raftpb.MsgAppResp, f.lastIndex())
			f.run()
			changed := f.LeaderChanged()
			for range 2 * f.cfg.ElectionTicks { // it may have heard of others just before the first half of them
				if c.heard != raft.None {
					f.from(c.heard, raftpb.MsgHeartbeatResp, 0)
				}
				f.Tick()
				f.run()
			}
			told := false
			select {
			case <-changed:
				told = true
			default:
			}
			if _, leads := f.Leads(); leads != c.leads || (f.Leader() == raft.None) == c.leads || told == c.leads {
				t.Errorf("it leads: %t, want %t; it takes member %d for the leader; who waits for a change is told: %t", leads, c.leads, f.Leader(), told)
			}
		})
	}
}
