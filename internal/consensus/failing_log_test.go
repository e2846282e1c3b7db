package consensus

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/raftlog"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

func TestAFailedSyncIsNeverAcknowledged(t *testing.T) {
	t.Parallel()
	toggle := &errorfs.Toggle{Injector: errorfs.ErrInjected.If(errorfs.Writes)}
	f := newFixture(t, errorfs.Wrap(vfs.NewMem(), toggle), 1)
	f.run()
	applied := f.Applied()
	toggle.On()
	f.propose("x")
	f.run()
	toggle.Off()
	if f.fatal == nil {
		t.Error("a disk that fails does not end the member")
	}
	if f.Applied() != applied || len(f.sm.data) != 0 {
		t.Error("an entry was applied that the log could not store")
	}
}

// TestNothingIsAcknowledgedBehindAFailedWrite: what needs no write itself answers for the entries before it, too. The loop may be woken once more
// after the failure, since it looks at what is closed and at what is to be done in no order.
func TestNothingIsAcknowledgedBehindAFailedWrite(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		woken func(f *fixture)
	}{
		{"an answer that waits is not given", func(f *fixture) {
			f.tellCommitAt(3, 2)
			f.turns()
			f.AppendTurn()
		}},
		{"one that comes when nothing waits is not given", func(f *fixture) {
			f.AppendTurn()
			f.tellCommitAt(3, 2)
			f.turns()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			toggle := &errorfs.Toggle{Injector: errorfs.ErrInjected.If(errorfs.Writes)}
			f := newFixture(t, errorfs.Wrap(vfs.NewMem(), toggle), 1, 2)
			f.follow(2)
			f.run()
			f.acks()
			toggle.On()
			f.follow(2, normal("a"))
			f.turns()
			f.AppendTurn()
			toggle.Off()
			if f.fatal == nil || f.cfg.Log.LastIndex() != 2 {
				t.Fatalf("the write of entry 3 did not fail: %v, the log ends at %d", f.fatal, f.cfg.Log.LastIndex())
			}
			tc.woken(f)
			if got := f.acks(); got != 0 {
				t.Errorf("acknowledged %d, and the log ends at %d", got, f.cfg.Log.LastIndex())
			}
		})
	}
}

// TestALogThatCannotBeReadEndsTheMember with an error that says where and what to do, and with no panic, which raft has for it.
func TestALogThatCannotBeReadEndsTheMember(t *testing.T) {
	t.Parallel()
	toggle := &errorfs.Toggle{Injector: errorfs.ErrInjected.If(errorfs.Reads)}
	f := newFixture(t, errorfs.Wrap(vfs.NewMem(), toggle), 1, 2)
	f.elect()
	for range 4 { // together more than the newest entries that are in memory
		f.propose(strings.Repeat("x", 4<<20))
		f.run()
		f.from(2, raftpb.MsgAppResp, f.cfg.Log.LastIndex())
		f.run()
	}
	toggle.On()
	f.Step(&raftpb.Message{Type: raftpb.MsgAppResp.Enum(), From: proto.Uint64(2), To: proto.Uint64(1), Term: proto.Uint64(f.Term()),
		Index: proto.Uint64(f.cfg.Log.LastIndex() + 1), Reject: proto.Bool(true), RejectHint: proto.Uint64(3), LogTerm: proto.Uint64(1)})
	f.from(2, raftpb.MsgHeartbeatResp, 0)
	f.run()
	toggle.Off()
	if f.fatal == nil {
		t.Fatal("it goes on")
	}
	for _, part := range []string{".seg at offset ", errorfs.ErrInjected.Error(), storage.Remedy} {
		if !strings.Contains(f.fatal.Error(), part) {
			t.Errorf("%q is not in: %v", part, f.fatal)
		}
	}
}

// TestAStartThatCannotReadItsLogEndsWithAnError at whichever read, from the opening of the log to the last entry that is to be applied, unless all is
// applied without it.
func TestAStartThatCannotReadItsLogEndsWithAnError(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	f := newFixture(t, mem, 1)
	f.run()
	for range 4 { // together more than the newest entries that are in memory
		f.propose(strings.Repeat("x", 4<<20))
		f.run()
	}
	want, err := f.startAgain(mem.CrashClone(vfs.CrashCloneCfg{}))
	if err != nil || want < 4 {
		t.Fatalf("with a sound disk: applied %d, %v", want, err)
	}
	opening, refused := true, 0
	for at := int64(1); ; at++ {
		var reads atomic.Int64
		applied, err := f.startAgain(errorfs.Wrap(mem.CrashClone(vfs.CrashCloneCfg{}), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsRead && reads.Add(1) == at {
				return errorfs.ErrInjected
			}
			return nil
		})))
		switch {
		case err == nil && applied != want:
			t.Fatalf("read %d: applied %d of %d", at, applied, want)
		case err != nil && !errors.Is(err, errorfs.ErrInjected):
			t.Fatalf("read %d: %v", at, err)
		case err != nil:
			refused++
			opening = opening && !errors.Is(err, storage.ErrFailed)
		case reads.Load() < at:
			if opening || refused < 5 {
				t.Errorf("%d starts were refused, all by the opening of the log: %t", refused, opening)
			}
			return
		}
	}
}

// startAgain starts another node on the log as it is on the disk, applies what is committed, and tells how far that went and what went wrong.
func (f *fixture) startAgain(fs vfs.FS) (applied uint64, failure error) {
	fatal := func(err error) {
		if failure == nil {
			failure = err
		}
	}
	log, err := raftlog.Open("log", raftlog.Options{Clock: f.cfg.Clock, Storage: storage.Options{FS: fs, Logger: f.cfg.Logger, Fatal: fatal}})
	if err != nil {
		return 0, err
	}
	defer log.Close() // it may have failed
	cfg := f.cfg
	cfg.Log, cfg.Machine, cfg.Fatal = log, &recorder{}, fatal
	n, err := New(cfg)
	if err != nil {
		return 0, err
	}
	defer n.Stop()
	for busy := true; busy && failure == nil; {
		busy = n.Turn()
		busy = n.AppendTurn() || busy
		busy = n.ApplyTurn() || busy
	}
	return n.Applied(), failure
}
