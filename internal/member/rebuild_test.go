package member

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/snapshot"
	"github.com/ashlar-kv/ashlar/internal/storage"
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
	if m.Trusted() != nil || !m.rebuild.begin() || !errors.Is(m.Trusted(), ErrUntrusted) {
		t.Fatalf("trusted: %v", m.Trusted())
	}
	cut("marked")
	m.durable.hold.Store(true)
	r, err := snapshot.NewReader(m.gen.Load().db)
	if err != nil {
		t.Fatal(err)
	}
	g, err := m.buildGeneration(2, func(db *storage.DB) error { return snapshot.Build(db, r) })
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	cut("written")
	if err := errors.Join(g.db.Flush(), g.close(), m.rebuild.await(t.Context(), g)); err != nil {
		t.Fatal(err)
	}
	cut("built")
	put(t, m, "after", "v") // the log goes on meanwhile
	cut("gone on")
	m.rebuild.next = 2
	close(m.rebuild.built)
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
			m.rebuild.done(t.Context())
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
	disk := founded(t)
	writeFile(t, disk, "data/ashlar/"+rebuildMark, "gibberish")
	m := start(t, configOf(t, disk, alone))
	defer stop(t, m)
	if !m.rebuild.pending() {
		t.Error("the state is not to be rebuilt")
	}
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
