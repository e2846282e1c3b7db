package member

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// tight is a disk that has so many bytes left.
type tight struct {
	vfs.FS
	free atomic.Uint64
}

func (d *tight) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: d.free.Load(), TotalBytes: 1 << 40}, nil
}

// TestAStateThatDoesNotFitOnTheDiskEndsNobody: neither who receives it, as a stream, nor who would make a database of it for a member
// of etcd.
func TestAStateThatDoesNotFitOnTheDiskEndsNobody(t *testing.T) {
	t.Parallel()
	from := &tight{FS: vfs.NewCrashableMem()}
	cfg := configOf(t, from, alone)
	cfg.MaxRequestBytes = 2 << 20
	cfg.SendSnapshot = func(*raftpb.Message, io.ReadCloser) {}
	sender := start(t, cfg)
	defer stop(t, sender)
	put(t, sender, "small", "v")
	for _, key := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
		put(t, sender, key, strings.Repeat(key, 1<<20))
	}
	disk := &tight{FS: vfs.NewCrashableMem()}
	m := start(t, configOf(t, disk, alone))
	defer stop(t, m)
	receive := func() error {
		state, err := sender.answerState()
		if err != nil {
			t.Fatal(err)
		}
		index, term := sender.Store().Applied()
		err = m.ReceiveSnapshot(&raftpb.Message{
			Type: raftpb.MsgSnap.Enum(), To: proto.Uint64(m.ID()), From: proto.Uint64(9), Term: proto.Uint64(1),
			Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: proto.Uint64(index), Term: proto.Uint64(term)}},
		}, state)
		return errors.Join(err, state.Close())
	}
	disk.free.Store(incomingSpareBytes - 1)
	if err := receive(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("on a full disk: %v", err)
	}
	if names, err := disk.List("data/ashlar"); err != nil || strings.Count(strings.Join(names, " "), "state-") != 1 {
		t.Errorf("what is left: %q, %v", names, err)
	}
	disk.free.Store(incomingSpareBytes)
	if err := receive(); err != nil {
		t.Errorf("on a disk with room: %v", err)
	}
	put(t, m, "still", "there")
	// It leads, so raft refuses the snapshot, which would take the room of the state until another one comes.
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
		if names, err := disk.List("data/ashlar"); err != nil {
			t.Fatal(err)
		} else if strings.Count(strings.Join(names, " "), "state-") == 1 {
			tick.Stop()
			break
		}
	}

	state, _, err := sender.openToSend(sender.gen.Load())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := state.Database(t.Context()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a database on a full disk: %v", err)
	}
	if err := state.Close(); err != nil {
		t.Error(err)
	}
}
