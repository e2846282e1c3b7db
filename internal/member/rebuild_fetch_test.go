package member

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// stateOf is what a member gives to one that rebuilds its own.
func stateOf(t *testing.T, m *Member) []byte {
	t.Helper()
	state, err := m.answerState()
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(state)
	if err = errors.Join(err, state.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

// second opens the second of ofThree, which is at entry newestOfThree.
func second(t *testing.T) *Member {
	t.Helper()
	cfg := configOf(t, vfs.NewMem(), ofThree)
	cfg.Name = "b"
	m := open(t, cfg)
	t.Cleanup(func() { stop(t, m) })
	step(m)
	return m
}

// another opens a member of another cluster, in whose log there is nothing that a member of ofThree has, at an entry.
func another(t *testing.T, at uint64) *Member {
	t.Helper()
	m := open(t, configOf(t, vfs.NewMem(), alone))
	t.Cleanup(func() { stop(t, m) })
	step(m)
	for m.node.Applied() < at {
		putStepped(t, m, "k", "v")
	}
	if m.node.Applied() != at {
		t.Fatalf("it is at entry %d", m.node.Applied())
	}
	return m
}

// voter answers for its chained hash as m would, and for its state with body. It counts how often it is asked for that.
func voter(m *Member, status int, body []byte, asked *int) func(*http.Request) (int, io.Reader) {
	chain := chainOf(m, newestOfThree, nil)
	return func(r *http.Request) (int, io.Reader) {
		if strings.HasSuffix(r.URL.Path, "/state") {
			*asked++
			return status, bytes.NewReader(body)
		}
		return chain(r)
	}
}

// expectNoSecond checks that there is no second generation, and that another one may begin.
func (m *Member) expectNoSecond(t *testing.T) {
	t.Helper()
	if there, err := storage.Exists(m.cfg.FS, storage.StateDir(m.cfg.DataDir, 2)); err != nil || there {
		t.Errorf("there is part of a state: %t, %v", there, err)
	}
	if old, err := m.incoming.begin(); err != nil || old != nil {
		t.Errorf("nothing else can come: %v, %v", old, err)
	}
	m.incoming.built(nil, 0)
}

// TestARebuildThatFailsLeavesNothingBehindAndBeginsAgain until it has a state that the log goes on from.
func TestARebuildThatFailsLeavesNothingBehindAndBeginsAgain(t *testing.T) {
	t.Parallel()
	sound, strange := stateOf(t, second(t)), stateOf(t, another(t, newestOfThree))
	for name, x := range map[string]struct {
		status int // 0 if nobody can be asked
		body   []byte
	}{
		"nobody can be asked for it":      {0, nil},
		"it is refused":                   {http.StatusServiceUnavailable, []byte("busy")},
		"it is empty":                     {http.StatusOK, nil},
		"it breaks off":                   {http.StatusOK, sound[:len(sound)/2]},
		"its end is missing":              {http.StatusOK, sound[:len(sound)-1]},
		"a bit of it has changed":         {http.StatusOK, append([]byte{sound[0] ^ 1}, sound[1:]...)},
		"it is of an entry that we lack":  {http.StatusOK, strange},
		"there is something else instead": {http.StatusOK, []byte("<html>")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk, answers, asked := vfs.NewCrashableMem(), voters{}, 0
			cfg := configOf(t, disk, ofThree)
			cfg.HTTP = answers
			m := open(t, cfg)
			step(m)
			m.rebuild.begin(1)
			answer := func(status int, body []byte) {
				answers["b"], answers["c"] = voter(m, status, body, &asked), voter(m, status, body, &asked)
			}
			if x.status != 0 {
				answer(x.status, x.body)
			}
			for range 2 {
				if wait, whole := m.rebuild.step(t.Context()); whole || wait != rebuildRetry || m.Trusted() == nil {
					t.Errorf("it is whole: %t; the next step is in %v; %v", whole, wait, m.Trusted())
				}
				m.expectNoSecond(t)
			}
			if want := 2; x.status != 0 && asked != want {
				t.Errorf("a state was asked for %d times, want %d", asked, want)
			}
			answer(http.StatusOK, sound)
			if _, whole := m.rebuild.step(t.Context()); !whole {
				t.Error("a sound state is not taken")
			}
			select {
			case <-m.Rebuilt():
			default:
				t.Error("nobody is told that it is whole")
			}
			stop(t, m)
			m = open(t, configOf(t, disk, ofThree))
			defer stop(t, m)
			if m.gen.Load().number != 2 || m.rebuild.pending() || !m.rebuild.marked() {
				t.Errorf("after another start: generation %d, to be rebuilt: %t, has a mark: %t", m.gen.Load().number, m.rebuild.pending(), m.rebuild.marked())
			}
		})
	}
}

// TestARebuildWaitsForTheLog to come as far as the new state, and gives way to a snapshot if that is how it comes.
func TestARebuildWaitsForTheLog(t *testing.T) {
	t.Parallel()
	answers, asked := voters{}, 0
	m, b, _ := answers.member(t, vfs.NewCrashableMem())
	ahead := stateOf(t, another(t, newestOfThree+2))
	answers["b"], answers["c"] = voter(m, http.StatusOK, ahead, &asked), voter(m, http.StatusOK, ahead, &asked)
	m.rebuild.begin(1)
	expect := func(what string, wait time.Duration, times int) {
		t.Helper()
		if got, whole := m.rebuild.step(t.Context()); whole || got != wait || asked != times {
			t.Errorf("%s: it is whole: %t; the next step is in %v, want %v; a state was asked for %d times, want %d", what, whole, got, wait, asked, times)
		}
	}
	expect("the log is behind", rebuildWait, 1)
	expect("it is so yet", rebuildWait, 1)
	snap := &raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), To: proto.Uint64(m.ID()), From: proto.Uint64(uint64(b)), Term: proto.Uint64(9),
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: proto.Uint64(100), Term: proto.Uint64(9)}},
	}
	if err := m.Answers().ReceiveSnapshot(snap, strings.NewReader("")); !errors.Is(err, ErrSnapshotBusy) {
		t.Fatalf("a snapshot beside a rebuild: %v", err)
	}
	expect("a snapshot was refused", rebuildRetry, 1)
	m.expectNoSecond(t)
	for range rebuildGiveWay {
		expect("the snapshot may come", rebuildWait, 1)
	}
	expect("it did not", rebuildWait, 2)
}
