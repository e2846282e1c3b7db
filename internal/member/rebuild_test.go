package member

import (
	"errors"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// TestACrashAtEachStepOfARebuildLeavesAMemberThatGoesOn takes what a power cut leaves after each step, and opens it.
func TestACrashAtEachStepOfARebuildLeavesAMemberThatGoesOn(t *testing.T) {
	t.Parallel()
	disk := vfs.NewCrashableMem()
	m := start(t, configOf(t, disk, alone))
	for _, k := range []string{"a", "b", "c"} {
		put(t, m, k, "v")
	}
	left := map[string]*vfs.MemFS{}
	cut := func(step string) {
		left[step] = disk.CrashClone(vfs.CrashCloneCfg{})
		left[step+", nothing is lost"] = copyOf(disk)
	}
	if m.Trusted() != nil {
		t.Fatal(m.Trusted())
	}
	if m.rebuild.begin(1); !errors.Is(m.Trusted(), ErrUntrusted) || !m.rebuild.pending() {
		t.Fatalf("trusted: %v", m.Trusted())
	}
	cut("marked")
	m.durable.hold.Store(true)
	g := copyState(t, m, m.gen.Load())
	cut("written")
	if err := errors.Join(g.db.Flush(), g.close()); err != nil {
		t.Fatal(err)
	}
	cut("built")
	put(t, m, "after", "v") // the log goes on meanwhile
	cut("gone on")
	m.rebuild.fresh = g
	if _, whole := m.rebuild.step(t.Context()); !whole {
		t.Fatal("the log has all that the state has, and it is not taken")
	}
	chain := m.Chain().Newest()
	stop(t, m)
	cut("adopted")

	for step, disk := range left {
		adopted := step == "adopted" || step == "adopted, nothing is lost"
		m := start(t, configOf(t, disk, alone))
		if !errors.Is(m.Trusted(), ErrUntrusted) || m.rebuild.pending() == adopted {
			t.Errorf("%s: trusted %v, to be rebuilt %v", step, m.Trusted(), m.rebuild.pending())
		}
		if number := m.gen.Load().number; (number == 2) != adopted {
			t.Errorf("%s: generation %d", step, number)
		}
		if get(t, m, "a") != "v" || get(t, m, "c") != "v" || adopted && get(t, m, "after") != "v" {
			t.Errorf("%s: something is missing", step)
		}
		if p, ok := m.Chain().At(chain.Index); adopted && (!ok || p != chain) {
			t.Errorf("%s: the chain has %+v %v, want %+v", step, p, ok, chain)
		}
		if adopted {
			m.rebuild.done()
			if m.Trusted() != nil || m.rebuild.marked() {
				t.Errorf("%s: it is not trusted after it was compared: %v", step, m.Trusted())
			}
		}
		stop(t, m)
		m = start(t, configOf(t, disk, alone))
		if trusted := m.Trusted() == nil; trusted != adopted {
			t.Errorf("%s: after another start it is trusted: %v", step, trusted)
		}
		stop(t, m)
	}
}

func TestAMarkThatCannotBeReadNamesThePresentState(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "gibberish", "generation=0", "generation=-1", "generation="} {
		disk := founded(t)
		writeFile(t, disk, "data/ashlar/"+rebuildMark, text)
		m := start(t, configOf(t, disk, alone))
		if !m.rebuild.pending() || m.Trusted() == nil {
			t.Errorf("%q: the state is not to be rebuilt", text)
		}
		stop(t, m)
	}
}

func TestARebuildEndsAlthoughItsMarkIsGoneAlready(t *testing.T) {
	t.Parallel()
	disk := founded(t)
	writeFile(t, disk, "data/ashlar/"+rebuildMark, "generation=7")
	m := start(t, configOf(t, disk, alone))
	defer stop(t, m)
	// As a try leaves it whose directory could not be synced.
	if err := disk.Remove("data/ashlar/" + rebuildMark); err != nil {
		t.Fatal(err)
	}
	if m.rebuild.done(); m.Trusted() != nil || m.rebuild.marked() {
		t.Errorf("it is not trusted: %v", m.Trusted())
	}
}

func TestAWrongMemberGivesOthersNoAnswerForTheirClients(t *testing.T) {
	t.Parallel()
	m := start(t, configOf(t, vfs.NewCrashableMem(), alone))
	defer stop(t, m)
	granted, _, err := m.LeaseGrant(t.Context(), 7, 100)
	if err != nil {
		t.Fatal(err)
	}
	a := m.Answers()
	if _, err := m.LeaseTimeToLive(t.Context(), granted.ID, true); err != nil { // it watches over the leases from here on
		t.Fatal(err)
	}
	ask := func() (errs [3]error) {
		_, errs[0] = a.RenewLease(t.Context(), granted.ID)
		_, errs[1] = a.TimeToLive(t.Context(), granted.ID, true)
		_, errs[2] = a.DowngradeEnabled(t.Context())
		return errs
	}
	if errs := ask(); errs != [3]error{} {
		t.Fatalf("a sound member: %v", errs)
	}
	m.rebuild.distrust()
	for i, err := range ask() {
		if !errors.Is(err, ErrUntrusted) {
			t.Errorf("answer %d of a wrong member: %v", i, err)
		}
	}
}

// TestARebuildGivesWayToASnapshot has a state that is ahead of all that comes by the log: only the snapshot that the leader sends
// brings the member on, and it must not be refused for ever.
func TestARebuildGivesWayToASnapshot(t *testing.T) {
	t.Parallel()
	ahead := start(t, configOf(t, vfs.NewCrashableMem(), alone))
	defer stop(t, ahead)
	m := start(t, configOf(t, vfs.NewCrashableMem(), alone))
	defer stop(t, m)
	put(t, ahead, "a", "v")
	if ready, err := m.rebuild.fits(ahead.gen.Load()); ready || err != nil {
		t.Fatalf("a state that is ahead of the log: ready %v, error %v", ready, err)
	}
	if old, err := m.incoming.begin(); err != nil || old != nil { // as a rebuild does
		t.Fatal(old, err)
	}
	snap := &raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), To: proto.Uint64(m.ID()), From: proto.Uint64(9), Term: proto.Uint64(9),
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: proto.Uint64(100), Term: proto.Uint64(9)}},
	}
	if err := m.Answers().ReceiveSnapshot(snap, strings.NewReader("")); !errors.Is(err, ErrSnapshotBusy) {
		t.Fatalf("a snapshot beside a rebuild: %v", err)
	}
	_, err := m.rebuild.fits(ahead.gen.Load())
	if !errors.Is(err, errBehind) {
		t.Fatalf("the rebuild goes on: %v", err)
	}
	if m.rebuild.again(t.Context(), err); m.rebuild.yields == 0 {
		t.Error("it begins again before the snapshot can come")
	}
	m.incoming.built(nil, 0)
}

func TestAWrongMemberGivesNoStateAway(t *testing.T) {
	t.Parallel()
	m := start(t, configOf(t, vfs.NewCrashableMem(), alone))
	defer stop(t, m)
	state, err := m.answerState()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.answerState(); !errors.Is(err, ErrSnapshotBusy) {
		t.Errorf("a second one at a time: %v", err)
	}
	if err := state.Close(); err != nil {
		t.Fatal(err)
	}
	m.rebuild.distrust()
	if _, err := m.answerState(); !errors.Is(err, ErrUntrusted) {
		t.Errorf("a wrong state: %v", err)
	}
}
