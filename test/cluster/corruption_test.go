package cluster

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// corrupt changes the newest version of a key in the state of a member that does not run, as nothing but a fault could: its
// value, and its count of versions.
func corrupt(tb testing.TB, m *member, key, from, to string) {
	tb.Helper()
	disk := vfs.Default
	dir := filepath.Join(m.dir, "data")
	all, err := storage.ListGenerations(disk, dir)
	if err != nil || len(all) == 0 {
		tb.Fatalf("%s has the states %v, error %v", m.name, all, err)
	}
	db, err := storage.OpenState(storage.StateDir(dir, slices.Max(all)), storage.Options{
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Fatal: func(err error) { tb.Error(err) },
	})
	if err != nil {
		tb.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	}()
	lower, upper := storage.SpaceBounds(storage.SpaceData)
	it, err := db.NewIter(&storage.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		tb.Fatal(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		user, _, _, _ := storage.DecodeDataKey(it.Key())
		if string(user) != key {
			continue
		}
		value := strings.Replace(string(it.Value()), from, to, 1)
		if value == string(it.Value()) {
			tb.Fatalf("the version %x of %s does not hold %q", it.Value(), key, from)
		}
		b := db.NewBatch()
		if err := b.Set(it.Key(), []byte(value), nil); err != nil {
			tb.Fatal(err)
		}
		if err := db.Commit(b); err != nil {
			tb.Fatal(err)
		}
		b.Close()
		return // the newest version comes first
	}
	tb.Fatalf("%s has no key %s", m.name, key)
}

// corrupted starts three members of our kind, writes the key "k" and changes it in the state of one of them, whose process has
// ended then.
func corrupted(t *testing.T, extra ...string) (*cluster, *member) {
	t.Helper()
	c := newClusterOf(t, []string{program, program, program}, extra...)
	c.leader()
	for i := range 30 {
		c.putOnce(c.members[0], fmt.Sprintf("k%d", i%3), fmt.Sprintf("right-%02d", i), int64(i/3))
	}
	x := c.members[2]
	c.get(x, "k") // it has applied all of it
	x.stop(t)
	// A field of the number of versions, 10, and one of the value. The next write makes version 11, or else 12.
	corrupt(t, x, "k1", "\x20\x0a\x2a\x08right-28", "\x20\x0b\x2a\x08wrong-28")
	return c, x
}

// putOnce puts a key whose version is known, which it raises by one however often it has to ask.
func (c *cluster) putOnce(at *member, key, value string, version int64) {
	c.Helper()
	c.again("a put at "+at.name, func() error {
		_, err := c.client(at).Txn(c.within()).If(clientv3.Compare(clientv3.Version(key), "=", version)).Then(clientv3.OpPut(key, value)).Commit()
		return err
	})
}

func TestAMemberWithAnotherStateThanTheMajorityRebuildsItself(t *testing.T) {
	t.Parallel()
	c, x := corrupted(t)
	x.start(t)
	first := x.process
	// Nobody can know before the key is touched. From the next write on there is no wrong answer: each read gives the new
	// value or an error.
	c.put(c.members[0], "k1", "new")
	version := c.get(c.members[0], "k1").Kvs[0].Version
	if !first.WaitFor("this member's state differs from the majority's") {
		t.Fatal("it was not found")
	}
	// The others go on: one bad disk is no reason for all clients to wait.
	c.put(c.members[0], "k2", "meanwhile")
	c.eventually("a member that answers rightly", func() bool {
		resp, err := c.client(x).Get(c.within(), "k1", clientv3.WithSerializable())
		if err != nil {
			if !strings.Contains(err.Error(), "differs from the majority's") && !strings.Contains(err.Error(), "connect") &&
				!strings.Contains(err.Error(), "closing") && !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "reset") {
				t.Errorf("an error that does not say why: %v", err)
			}
			return false
		}
		if len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != "new" || resp.Kvs[0].Version != version {
			t.Fatalf("answered %v after the fault was proven", resp.Kvs)
		}
		return true
	})
	for _, line := range []string{"starting anew with the rebuilt state", "this member's state agrees with the majority's again"} {
		if !x.process.WaitFor(line) {
			t.Fatalf("no line %q", line)
		}
	}
	// It is whole, in the same process, and nobody was alarmed.
	if alarms := c.alarms(c.members[0]); len(alarms) > 0 {
		t.Errorf("alarms %v", alarms)
	}
	c.fill(x)
	c.checkEqual()
	if x.process != first {
		t.Error("the process ended")
	}
	x.stop(t)
	x.start(t)
	c.checkEqual()
}

func TestALeaderWithAnotherStateThanTheMajorityGivesWay(t *testing.T) {
	t.Parallel()
	c, x := corrupted(t)
	x.start(t)
	c.get(c.leader(), "k")
	c.lead(x)
	c.put(c.members[0], "k1", "new")
	if !x.process.WaitFor("this member's state agrees with the majority's again") {
		t.Fatal("it is not rebuilt")
	}
	c.eventually("writes", func() bool {
		_, err := c.client(c.members[1]).Put(c.within(), "k1", "after")
		return err == nil
	})
	c.checkEqual()
}

func TestAMemberThatIsKilledWhileItRebuildsItselfBeginsAgain(t *testing.T) {
	t.Parallel()
	c, x := corrupted(t)
	x.start(t)
	c.put(c.members[0], "k1", "new")
	for _, line := range []string{"this member's state differs from the majority's", "rebuilding the state"} {
		if !x.process.WaitFor(line) {
			t.Fatalf("no line %q", line)
		}
		x.kill(t)
		x.launch(t)
	}
	if !x.process.WaitFor("this member's state agrees with the majority's again") {
		t.Fatal("it is not rebuilt")
	}
	c.eventually("writes", func() bool {
		_, err := c.client(x).Put(c.within(), "k1", "after")
		return err == nil
	})
	c.checkEqual()
}

// TestAMemberThatIsToBeRebuiltAndFarBehindGetsASnapshot: the entries that it would have to wait for are gone from the others' logs.
func TestAMemberThatIsToBeRebuiltAndFarBehindGetsASnapshot(t *testing.T) {
	t.Parallel()
	c, x := corrupted(t, "--snapshot-count", "50", "--snapshot-catchup-entries", "5", "--feature-gates", "InitialCorruptCheck=true")
	// As a start finds it after a power cut in the middle of a rebuild.
	mark := filepath.Join(storage.Root(filepath.Join(x.dir, "data")), "REBUILD")
	if err := os.WriteFile(mark, []byte("generation=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, m := range c.others(x) {
		c.fill(m)
		m.stop(t) // which makes all of it durable, so that the log is cut at the next start
		m.start(t)
	}
	c.fill(c.members[0])
	x.launch(t)
	if !x.process.WaitFor("this member's state agrees with the majority's again") {
		t.Fatal("it is not rebuilt")
	}
	c.eventually("writes", func() bool {
		_, err := c.client(x).Put(c.within(), "k1", "after")
		return err == nil
	})
	c.checkEqual()
	if _, err := os.Stat(mark); err == nil {
		t.Error("the mark is still there")
	}
}

func TestTwoMembersThatDifferRaiseTheAlarmForNobodyInParticular(t *testing.T) {
	t.Parallel()
	c, x := corrupted(t)
	c.members[1].stop(t)
	x.start(t)
	c.put(c.members[0], "k1", "new")
	c.expectAlarm(c.members[0], 0)
	_, err := c.client(c.members[0]).Put(c.within(), "k1", "more")
	if err == nil || !strings.Contains(err.Error(), "corrupt cluster") {
		t.Errorf("a write under the alarm: %v", err)
	}
}

// expectAlarm waits for the CORRUPT alarm of a member, and of no other one.
func (c *cluster) expectAlarm(at *member, id uint64) {
	c.Helper()
	c.eventually("the alarm", func() bool {
		resp, err := c.client(at).AlarmList(c.within())
		if err != nil || len(resp.Alarms) == 0 {
			return false
		}
		for _, a := range resp.Alarms {
			if a.Alarm != pb.AlarmType_CORRUPT || a.MemberID != id {
				c.Fatalf("the alarms are %v, want CORRUPT of %d", resp.Alarms, id)
			}
		}
		return true
	})
}

func TestTheInitialCheckRefusesTheStartOfACorruptMember(t *testing.T) {
	t.Parallel()
	c, x := corrupted(t, "--feature-gates", "InitialCorruptCheck=true")
	x.launch(t)
	x.waitEnd(t)
	for _, line := range []string{"checkInitialHashKV failed", fmt.Sprintf("%x found data inconsistency with peers", x.id)} {
		if !strings.Contains(x.process.Log.String(), line) {
			t.Errorf("no line %q", line)
		}
	}
	if code := x.process.State().ExitCode(); code != 1 {
		t.Errorf("it ended with status %d", code)
	}
	c.members[1].stop(t)
	c.members[1].start(t) // one that is sound passes
	if !strings.Contains(c.members[1].process.Log.String(), "initial corruption checking passed; no corruption") {
		t.Error("no word about the check")
	}
}

func TestThePeriodicCheckRaisesTheAlarmOfTheCorruptMember(t *testing.T) {
	t.Parallel()
	c, x := corrupted(t, "--corrupt-check-time", "500ms")
	x.start(t)
	c.eventually("the alarm", func() bool {
		resp, err := c.client(c.members[0]).AlarmList(c.within())
		if err != nil || len(resp.Alarms) == 0 {
			return false
		}
		// A corrupt leader accuses the first of the others, as etcd does.
		led := strings.Contains(x.process.Log.String(), "same compact revision then hashes must match")
		for _, a := range resp.Alarms {
			if a.Alarm != pb.AlarmType_CORRUPT || a.MemberID != x.id && !led {
				t.Fatalf("the alarms are %v, want CORRUPT of %d", resp.Alarms, x.id)
			}
		}
		return true
	})
}

func TestTheCheckOfCompactionsRaisesTheAlarmOfTheCorruptMember(t *testing.T) {
	t.Parallel()
	c, x := corrupted(t, "--feature-gates", "CompactHashCheck=true", "--compact-hash-check-time", "500ms")
	x.start(t)
	resp := c.get(c.members[0], "k1")
	c.again("a compaction", func() error {
		_, err := c.client(c.members[0]).Compact(c.within(), resp.Header.Revision)
		if errors.Is(err, rpctypes.ErrCompacted) { // by an earlier attempt
			return nil
		}
		return err
	})
	c.expectAlarm(c.members[0], x.id)
}

// TestChecksRaiseNoFalseAlarm: with all checks on, members come, go, fall behind, get snapshots and compact, and nobody is
// accused. With -other some of them are of etcd.
func TestChecksRaiseNoFalseAlarm(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, "--corrupt-check-time", "300ms", "--feature-gates", "CompactHashCheck=true,InitialCorruptCheck=true",
		"--compact-hash-check-time", "300ms", "--snapshot-count", "50", "--snapshot-catchup-entries", "5")
	for i := range c.members {
		x := c.members[i]
		c.fill(c.others(x)[0])
		x.stop(t)
		c.fill(c.others(x)[0])
		x.start(t)
		c.fill(x)
		c.lead(x)
		c.fill(c.others(x)[1])
		c.checkEqual()
		c.eventually("both checks by "+x.name, func() bool {
			c.lead(x)
			log := x.process.Log
			return log.Contains("successfully checked hash on whole cluster") && log.Contains("finished peer corruption check")
		})
		if alarms := c.alarms(x); len(alarms) > 0 {
			t.Fatalf("alarms %v", alarms)
		}
	}
	for _, m := range c.members {
		if strings.Contains(m.process.Log.String(), "differ from the majority's") {
			t.Errorf("%s takes somebody for corrupt", m.name)
		}
	}
}
