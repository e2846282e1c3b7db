package consensus

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"
)

// TestVotesAreAskedForOnceTheOwnOneIsStored: those of the others may be a majority, and nobody may lead in a term that a crash makes him forget.
func TestVotesAreAskedForOnceTheOwnOneIsStored(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]bool{"it is stored": false, "it cannot be stored": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			toggle := &errorfs.Toggle{Injector: errorfs.ErrInjected.If(errorfs.Writes)}
			f := newFixture(t, errorfs.Wrap(vfs.NewMem(), toggle), 1, 2, 3)
			f.run()
			f.Campaign()
			f.run()
			f.from(2, raftpb.MsgPreVoteResp, 0)
			f.turns()
			if stored := f.cfg.Log.HardState().Term; f.Term() != 2 || stored != 1 || f.asked() != 0 {
				t.Fatalf("it stands for election in term %d, the log knows term %d, and %d members are asked for their votes", f.Term(), stored, f.asked())
			}
			want := 2
			if fails {
				toggle.On()
				want = 0
			}
			f.AppendTurn()
			toggle.Off()
			f.turns()
			if hs := f.cfg.Log.HardState(); f.asked() != want || (hs.Term == 2 && hs.Vote == 1) == fails {
				t.Errorf("%d members are asked for their votes, want %d; the log knows term %d and a vote for %d", f.asked(), want, hs.Term, hs.Vote)
			}
		})
	}
}

// asked counts the members that are asked for their votes.
func (f *fixture) asked() (n int) {
	for _, m := range f.sent {
		if m.GetType() == raftpb.MsgVote {
			n++
		}
	}
	return n
}
