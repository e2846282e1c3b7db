package peer

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// endless is a state without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// slowSite returns a site that takes a snapshot, perhaps whole, says so, and answers when it is told to, and one on another clock that sends
// one to it.
func slowSite(t *testing.T, state io.Reader, whole bool) (now *clock.Manual, sender *site, answer chan<- struct{}) {
	t.Helper()
	b := newSite(t, 2, testCluster)
	has, answered := make(chan struct{}), make(chan struct{}, 1)
	b.Transport.answers.ReceiveSnapshot = func(_ *raftpb.Message, r io.Reader) error {
		if whole {
			if _, err := io.Copy(io.Discard, r); err != nil {
				return err
			}
		}
		close(has)
		<-answered
		return nil
	}
	now = clock.NewManual(time.Now())
	a := &site{id: 1, unreachable: make(chan uint64, 1), snapshots: make(chan bool, 1), stepped: make(chan *raftpb.Message, 100)}
	a.Transport = New(Config{HTTP: &http.Transport{}, Clock: now, Logger: slog.New(slog.DiscardHandler), Removed: func() {}})
	a.Start(Identity{Member: a.id, Cluster: testCluster}, a, Answers{})
	t.Cleanup(func() {
		close(answered)
		a.Close()
	})
	a.AddRemote(b.id, []string{b.server.URL})
	a.SendSnapshot(snapshotMessage(a, b), &theState{Reader: state})
	receive(t, has, "the state")
	return now, a, answered
}

// theState is a state that is nothing else.
type theState struct{ io.Reader }

func (*theState) Close() error { return nil }

// TestAReceiverHasTimeForWhatItDoesAtTheEnd: it has everything, and its disk is slow.
func TestAReceiverHasTimeForWhatItDoesAtTheEnd(t *testing.T) {
	t.Parallel()
	for name, answers := range map[string]bool{"it answers": true, "it never does": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now, a, answer := slowSite(t, strings.NewReader("everything"), true)
			now.Advance(snapshotFinish - time.Second)
			select {
			case <-a.snapshots:
				t.Fatal("it was given up")
			default:
			}
			if answers {
				answer <- struct{}{}
			} else {
				now.Advance(time.Second)
			}
			if got := receive(t, a.snapshots, "report"); got != answers {
				t.Errorf("it was reported as done: %t", got)
			}
		})
	}
}

// TestAReceiverThatTakesNothingIsGivenUp soon, as it does not have everything.
func TestAReceiverThatTakesNothingIsGivenUp(t *testing.T) {
	t.Parallel()
	now, a, _ := slowSite(t, endless{}, false)
	eventually(t, func() bool {
		now.Advance(snapshotStall)
		return len(a.snapshots) > 0
	})
	if <-a.snapshots {
		t.Error("it was reported as done")
	}
}
