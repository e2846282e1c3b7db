package consensus

import (
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
)

// removeSelf makes the node, leader of the voters 1 and 2, one that was removed and goes on: raft lets it lead.
func (f *fixture) removeSelf() {
	f.t.Helper()
	f.change(raftpb.ConfChangeRemoveNode, 1)
	f.run()
	f.from(2, raftpb.MsgAppResp, f.lastIndex())
	f.run()
	if f.belongs() || !f.IsLeader() {
		f.t.Fatalf("it belongs to the cluster: %v, and leads: %v", f.belongs(), f.IsLeader())
	}
	f.sent = nil
}

// TestARemovedLeaderAnswersNoRead: the only voter that is left may lead by itself as soon as it hears nothing any more, and then
// nobody tells the removed one of what is committed. Raft would take it for the only voter itself.
func TestARemovedLeaderAnswersNoRead(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2)
	f.elect()
	early := f.BeginRead() // its question is on its way when the removal is applied
	f.run()
	f.removeSelf()
	late := f.BeginRead()
	f.ask(2, "another's")
	f.run()
	for range 2 * readRetryTicks {
		f.Tick()
		f.run()
	}
	for name, b := range map[string]*ReadBatch{"from before": early, "from after": late} {
		if decided(b) && b.Err() == nil {
			t.Errorf("a read %s the removal goes on without the word of the one that is left", name)
		}
	}
	if got := f.answers(); len(got) != 0 {
		t.Errorf("it answered %q", got)
	}
}

// TestWhoIsLeftAloneStartsAlone however soon after the removal of the other it ends: the commit index that the removal rests on is on its disk. A restart
// that knew the configuration before would need the vote of one who is gone for good.
func TestWhoIsLeftAloneStartsAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		unsynced int
		hinted   bool // a tick comes between the commit and the change
	}{
		"killed": {100, false}, "without power": {0, false}, "without power just after a tick": {0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mem := vfs.NewCrashableMem()
			f := newFixture(t, mem, 1, 2)
			f.elect()
			f.change(raftpb.ConfChangeRemoveNode, 2)
			f.run()
			removal := f.lastIndex()
			f.from(2, raftpb.MsgAppResp, removal)
			if c.hinted {
				f.Tick()
				f.Turn()
				f.AppendTurn()
				if f.stored() != removal || f.Applied() == removal {
					t.Fatalf("stored %d, applied %d, the removal is entry %d", f.stored(), f.Applied(), removal)
				}
			}
			f.run()
			if f.Applied() != removal || !f.alone() {
				t.Fatalf("applied %d, the removal is entry %d", f.Applied(), removal)
			}
			left := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: c.unsynced, RNG: rand.New(rand.NewPCG(0, 0))})
			applied, err := f.startAgain(left)
			if err != nil || applied <= removal {
				t.Errorf("applied %d after the restart, the removal is entry %d: it does not lead: %v", applied, removal, err)
			}
		})
	}
}
