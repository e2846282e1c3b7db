package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/internal/util"
)

// What operators do to members that serve: defragment them, take snapshots of them, and make room once the quota is used up.

// tool runs the offline tool, which prints JSON, into an answer.
func (c *cluster) tool(into any, args ...string) {
	c.Helper()
	var out, said bytes.Buffer
	status := util.Run(c.within(), util.Process{Program: "ashlar util", Args: append(args, "--write-out", "json"), Stdout: &out, Stderr: &said})
	if status != 0 {
		c.Fatalf("%q: status %d: %s", args, status, said.String())
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(out.Bytes(), into); err != nil {
		c.Fatalf("%q prints %q: %v", args, out.String(), err)
	}
}

// hashOf is what HashKV answers, and what the offline tool prints.
type hashOf struct {
	Hash            uint32
	HashRevision    int64
	CompactRevision int64
}

// save writes a snapshot of a member to a file; an error is one of the connection.
func (c *cluster) save(x *member, path string) (err error) {
	c.Helper()
	resp, err := c.client(x).SnapshotWithVersion(c.within())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Snapshot.Close()) }()
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Snapshot)
	return errors.Join(err, f.Close())
}

// checkSnapshot checks that a snapshot holds what was acknowledged up to a revision, that its hash is the cluster's, and that a member restored from it
// has every key as it was at the snapshot's revision.
func (w *workload) checkSnapshot(c *cluster, path string, acknowledged int64) {
	c.Helper()
	var status struct{ Revision int64 }
	c.tool(&status, "snapshot", "status", path)
	if status.Revision < acknowledged {
		c.Errorf("a snapshot has the revision %d, and %d was answered before it was taken", status.Revision, acknowledged)
	}
	var of hashOf
	c.tool(&of, "hashkv", path)
	c.eventually("a watcher is told of all that is in the snapshot", func() bool { return w.newest() >= status.Revision })
	w.checkHash(c, of)

	one := makeClusterOf(c.TB, []string{program})
	m := one.members[0]
	data := filepath.Join(m.dir, "data")
	c.tool(nil, "snapshot", "restore", path, "--data-dir", data, "--name", m.name,
		"--initial-cluster", m.initial, "--initial-cluster-token", token, "--initial-advertise-peer-urls", m.peer)
	var restored hashOf
	c.tool(&restored, "hashkv", filepath.Join(data, "ashlar"))
	if restored != of {
		c.Errorf("what was restored has the hash %+v, the snapshot %+v", restored, of)
	}
	m.start(c)
	resp := one.get(m, w.prefix, clientv3.WithPrefix(), clientv3.WithRev(status.Revision))
	if d := w.differs(resp.Kvs, status.Revision); d != "" {
		c.Errorf("what was restored of a snapshot of revision %d: %s", status.Revision, d)
	}
	m.stop(c)
	m.vanish()
	m.wipe(c)
}

// checkHash compares the hash of a snapshot with that of every member at its revision, unless history has been compacted since.
func (w *workload) checkHash(c *cluster, of hashOf) {
	c.Helper()
	for _, m := range c.members {
		c.get(m, "x") // it has applied all of that
		var h *clientv3.HashKVResponse
		var compacted bool
		c.again("the hash of "+m.name, func() (err error) {
			h, err = c.client(m).HashKV(c.within(), m.client, of.HashRevision)
			if compacted = errors.Is(err, rpctypes.ErrCompacted); compacted {
				return nil
			}
			return err
		})
		if compacted || h.CompactRevision != of.CompactRevision {
			continue
		}
		w.past.compared()
		if h.Hash != of.Hash {
			c.Errorf("a snapshot has the hash %x at revision %d, compacted to %d; %s has %x", of.Hash, of.HashRevision, of.CompactRevision, m.name, h.Hash)
		}
	}
}

// ballastBytes is the size of a value that uses a quota up when it is put many times.
const ballastBytes = 1 << 20

// overfill puts values until the quota is used up. Then nothing more is put anywhere until room was made and the alarm is lowered; all else goes on.
func (w *workload) overfill(c *cluster, at *member) {
	c.Helper()
	mark, ballast, n := fmt.Sprintf("%sballast/%d", w.prefix, w.values.Add(1)), strings.Repeat("b", ballastBytes), 0
	c.put(at, mark, mark)
	c.eventually("the quota is used up", func() bool {
		n++
		_, err := c.client(at).Put(c.within(), fmt.Sprintf("ballast/%d", n), ballast)
		if err != nil && !errors.Is(err, rpctypes.ErrNoSpace) && !passes(err) {
			c.Fatalf("a put of ballast: %v", err)
		}
		return errors.Is(err, rpctypes.ErrNoSpace) && len(c.alarms(at)) > 0 // an election may have kept it from raising the alarm
	})
	for _, m := range c.members {
		c.get(m, "x") // it has applied what raised the alarm
		if as := c.alarms(m); len(as) == 0 || as[0].Alarm != etcdserverpb.AlarmType_NOSPACE {
			c.Errorf("%s refuses for want of space, and the alarms at %s are %v", at.name, m.name, as)
		}
	}
	begin, refused := w.history.now(), w.history.refusals()
	for _, m := range c.members {
		c.eventually("a put at "+m.name+" is refused", func() bool {
			_, err := c.client(m).Put(c.within(), "ballast/more", "")
			if err == nil || !errors.Is(err, rpctypes.ErrNoSpace) && !passes(err) {
				c.Fatalf("a put at %s with no space left: %v", m.name, err)
			}
			return errors.Is(err, rpctypes.ErrNoSpace)
		})
	}
	c.eventually("a client of the workload is refused", func() bool { return w.history.refusals() > refused })
	var emptied *clientv3.TxnResponse // with a change that watchers are told of
	c.again("a deletion with no space left", func() (err error) {
		emptied, err = c.client(at).Txn(c.within()).Then(clientv3.OpDelete("ballast/", clientv3.WithPrefix()), clientv3.OpDelete(mark)).Commit()
		return err
	})
	w.history.tight(begin, w.history.now())
	w.compactAll(c, emptied.Header.Revision)
	w.relieve(c)
}

// compactAll compacts to a revision once a watcher has seen it.
func (w *workload) compactAll(c *cluster, revision int64) {
	c.Helper()
	c.eventually("a watcher is told of what is to be compacted", func() bool { return w.newest() >= revision })
	c.eventually("a compaction", func() bool {
		w.compact(c.within(), c.client(c.leader()), revision, clientv3.WithCompactPhysical())
		done, _ := w.past.compacted()
		return done >= revision
	})
}

// relieve lowers the alarm until puts at every member are answered: a member that is behind may raise it once more.
func (w *workload) relieve(c *cluster) {
	c.Helper()
	for _, m := range c.members {
		c.eventually("a put at "+m.name+" after room was made", func() bool {
			for _, a := range c.alarms(m) {
				if _, err := c.client(m).AlarmDisarm(c.within(), (*clientv3.AlarmMember)(a)); err != nil && !passes(err) {
					c.Fatalf("lowering %v: %v", a, err)
				}
			}
			_, err := c.client(m).Put(c.within(), "room", "")
			if err != nil && !errors.Is(err, rpctypes.ErrNoSpace) && !passes(err) {
				c.Fatalf("a put at %s: %v", m.name, err)
			}
			return err == nil
		})
	}
}

func TestSnapshotsUnderLoadAreWhole(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	w := c.newWorkload(1)
	w.keep(1)
	for i, m := range c.members {
		w.progress(c, 100)
		at := c.get(m, "x").Header.Revision
		path := filepath.Join(t.TempDir(), "snapshot")
		if err := c.save(m, path); err != nil {
			t.Fatal(err)
		}
		w.checkSnapshot(c, path, at)
		x := c.members[(i+1)%3]
		if _, err := c.client(x).Defragment(c.within(), x.client); err != nil {
			t.Error(err)
		}
	}
	w.end(c)
}

func TestTheQuotaIsUsedUpUnderLoad(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, "--quota-backend-bytes=6000000")
	w := c.newWorkload(1)
	w.keep(1)
	w.progress(c, 100)
	w.overfill(c, c.leader())
	w.progress(c, 100)
	w.end(c)
}
