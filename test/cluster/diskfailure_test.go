package cluster

import (
	"context"
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestALeadersDiskStandsStill: heartbeats need no disk, so nobody deposes a leader whose log cannot be synced. It hands over itself.
func TestALeadersDiskStandsStill(t *testing.T) {
	t.Parallel()
	c := newClusterOnDisks(t, 3)
	w := c.newWorkload(1)
	w.progress(c, 50)
	old := c.leader()
	c.trouble(old, stuckLog)
	c.leader(c.others(old)...)
	w.use(c.others(old))
	w.progress(c, 50)
	c.trouble(old, healthy)
	w.use(c.members)
	c.eventually("the old leader follows and keeps up", func() bool {
		is, err := c.status(old)
		leads, lerr := c.status(c.leader())
		return err == nil && lerr == nil && is.Leader == leads.Leader && is.RaftAppliedIndex+100 > leads.RaftAppliedIndex
	})
	w.end(c)
	if !old.process.Log.Contains("the disk of the log stands still: handing leadership over") {
		t.Error("it did not hand over by itself")
	}
	if old.process.State() != nil {
		t.Errorf("the member ended: %v", old.process.State())
	}
}

func TestADiskIsSlow(t *testing.T) {
	t.Parallel()
	c := newClusterOnDisks(t, 3)
	w := c.newWorkload(1)
	for _, m := range []*member{c.leader(), c.others(c.leader())[0]} {
		c.trouble(m, slowSync)
		w.progress(c, 50)
		c.trouble(m, healthy)
	}
	w.progress(c, 20)
	w.end(c)
}

// TestADiskFails: a member whose disk is full, or whose manifest cannot be written, ends and says why; the others go on; with the
// disk in order it is started again and has everything.
func TestADiskFails(t *testing.T) {
	cases := map[string]struct {
		what trouble
		says string
	}{
		"the leader's is full":            {full, "no space left on device"},
		"the leader's manifest is broken": {failManifest, "input/output error"},
	}
	for name, x := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClusterOnDisks(t, 3)
			w := c.newWorkload(1)
			w.progress(c, 50)
			old := c.leader()
			c.trouble(old, x.what)
			if x.what == failManifest {
				c.fillMemory(c.others(old)[0])
			}
			old.waitEnd(t)
			if code := old.process.State().ExitCode(); code == 0 {
				t.Errorf("%s ended with %v", old.name, old.process.State())
			}
			if !strings.Contains(old.process.Log.String(), x.says) {
				t.Errorf("%s does not say %q:\n%s", old.name, x.says, old.process.Log.Tail(5))
			}
			w.use(c.others(old))
			c.leader(c.others(old)...)
			w.progress(c, 50)
			old.start(t)
			w.use(c.members)
			w.progress(c, 50)
			w.end(c)
		})
	}
}

// TestAFlushStandsStill: the state is written to disk in the background. While that stands still the cluster goes on, and so does the
// member afterwards.
func TestAFlushStandsStill(t *testing.T) {
	t.Parallel()
	c := newClusterOnDisks(t, 3)
	w := c.newWorkload(1)
	w.progress(c, 50)
	x := c.others(c.leader())[0]
	c.trouble(x, stuckFlush)
	c.fillMemory(c.leader())
	w.progress(c, 50)
	c.trouble(x, healthy)
	w.progress(c, 50)
	w.end(c)
}

// fillMemory writes more than a member keeps in memory before it writes it to its tables.
func (c *cluster) fillMemory(at *member) {
	c.Helper()
	const count, size = 48, 1 << 20
	for i := range count {
		c.eventually("a large put", func() bool {
			ctx, cancel := context.WithTimeout(context.Background(), requestTime)
			defer cancel()
			_, err := c.client(at).Put(ctx, fmt.Sprintf("large/%d", i%4), strings.Repeat("x", size))
			return err == nil
		})
	}
	c.again("a deletion", func() error {
		_, err := c.client(at).Delete(c.within(), "large/", clientv3.WithPrefix())
		return err
	})
}
