package member

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// sender is a member on a clock that stands still, which has sent one snapshot.
type sender struct {
	*Member
	clock *clock.Manual
	state io.ReadCloser
	index uint64 // of the snapshot
}

func newSender(t *testing.T) *sender {
	t.Helper()
	s := &sender{clock: clock.NewManual(time.Unix(1_700_000_000, 0))}
	cfg := configOf(t, vfs.NewCrashableMem(), alone)
	cfg.Clock = s.clock
	cfg.SendSnapshot = func(m *raftpb.Message, state io.ReadCloser) {
		s.state, s.index = state, m.GetSnapshot().GetMetadata().GetIndex()
	}
	s.Member = open(t, cfg)
	step(s.Member)
	s.write(t, 30)
	s.sendSnapshot(&raftpb.Message{Type: raftpb.MsgSnap.Enum(), To: proto.Uint64(7)})
	if s.state == nil {
		t.Fatal("no snapshot was sent")
	}
	return s
}

func (s *sender) write(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		putStepped(t, s.Member, "k", fmt.Sprint(i))
	}
}

// cut writes, and returns how far the log is cut then and how far it would be without any snapshot.
func (s *sender) cut(t *testing.T) (got, without uint64) {
	t.Helper()
	s.write(t, 30)
	if err := errors.Join(s.Flush(), s.CutLog()); err != nil {
		t.Fatal(err)
	}
	applied, _ := s.Store().Applied()
	return s.Log().Mark().Index, applied - s.cfg.SnapshotCatchUpEntries
}

func TestTheLogIsKeptForTheReceiverOfASnapshot(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	defer stop(t, s.Member)
	for range 3 {
		if got, _ := s.cut(t); got != s.index {
			t.Errorf("while the snapshot of entry %d is on the way the log is cut at %d", s.index, got)
		}
	}
	if err := s.state.Close(); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(receiverTime - 1)
	if got, _ := s.cut(t); got != s.index {
		t.Errorf("as the snapshot of entry %d has just arrived the log is cut at %d", s.index, got)
	}
	s.clock.Advance(1)
	if err := s.durable.tick(s.clock.Now()); err != nil {
		t.Fatal(err)
	}
	if got := s.Log().Mark().Index; got <= s.index {
		t.Errorf("long after the snapshot has arrived, and nobody writes, the log is cut at %d", got)
	}
	if got, want := s.cut(t); got != want {
		t.Errorf("long after the snapshot has arrived the log is cut at %d, want %d", got, want)
	}
}

func TestALogThatIsTooLargeIsKeptForNobody(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	defer stop(t, s.Member)
	s.durable.logMax = func(uint64) uint64 { return 0 }
	if got, want := s.cut(t); got != want {
		t.Errorf("the log is cut at %d, want %d", got, want)
	}
	if err := s.state.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTheReceiverThatNeedsMostOfTheLogCounts(t *testing.T) {
	t.Parallel()
	var r receivers
	at := time.Unix(1_700_000_000, 0)
	expect := func(what string, now time.Time, want uint64) {
		t.Helper()
		if got, any := r.need(now); got != want || any != (want != 0) {
			t.Errorf("%s: got %d, %v, want %d", what, got, any, want)
		}
	}
	expect("nobody", at, 0)
	r.begin(1, 10)
	r.begin(2, 5)
	expect("two on the way", at, 5)
	r.begin(2, 20)
	r.end(2, 5, at)
	expect("a newer one in place of one that failed", at.Add(time.Hour), 10)
	r.end(1, 10, at)
	expect("one has arrived", at.Add(receiverTime-1), 10)
	expect("one has arrived long ago", at.Add(receiverTime), 20)
	r.end(3, 1, at)
	expect("another one ends that never began", at, 20)
}
