package cluster

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/test/process"
)

type pbMember = etcdserverpb.Member

func TestMembersAreReplacedOneByOne(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	l := c.newWorkload(1)
	for _, old := range append([]*member{}, c.members...) {
		at := c.others(old)[0]
		x := c.add(at, true)
		c.promote(at, x)
		l.use(c.others(old))
		c.remove(c.others(old)[0], old)
		old.waitEnd(t) // it was told
		l.progress(c, 20)
	}
	if list := c.memberList(c.members[0]); len(list.Members) != 3 {
		t.Errorf("the members are %v", list.Members)
	}
	l.end(c)
}

// TestFoundersNeedNotKnowEachOthersNames: who finds the others by DNS calls them by numbers, so each has other names for them.
func TestFoundersNeedNotKnowEachOthersNames(t *testing.T) {
	t.Parallel()
	c := makeClusterOf(t, []string{program, program, program})
	for _, m := range c.members {
		m.initial = ""
		for i, x := range c.members {
			name := fmt.Sprint(i)
			if x == m {
				name = m.name
			}
			m.initial += "," + name + "=" + x.peer
		}
		m.initial = strings.TrimPrefix(m.initial, ",")
	}
	c.launch()
	for i, m := range c.members {
		c.put(m, fmt.Sprint("key/", i), "1")
		c.get(m, "key/0") // it has applied what the founders are
	}
	var first string
	for _, m := range c.members {
		resp, err := http.Get(m.listen + "/ashlar/chain?index=3")
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = string(b)
		}
		if string(b) != first || !strings.Contains(first, `"index":3,"base":0`) {
			t.Errorf("after the founding %s has the hash %s, %s has %s", m.name, b, c.members[0].name, first)
		}
	}
	for _, m := range c.memberList(c.members[0]).Members {
		if !strings.HasPrefix(m.Name, "m") {
			t.Errorf("a member is called %q", m.Name)
		}
	}
	c.checkNoAlarm()
}

func TestARemovedMemberNeverComesBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	old := c.others(c.leader())[0]
	old.kill(t)
	c.remove(c.leader(c.others(old)...), old)
	old.launch(t)
	old.waitEnd(t)
	if !strings.Contains(old.process.Log.String(), "removed") {
		t.Errorf("%s does not say why it ended:\n%s", old.name, old.process.Log.Tail(5))
	}
	c.checkEqual()
}

func TestAWipedMemberIsWholeAgain(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, "--snapshot-catchup-entries", "10", "--snapshot-count", "100")
	l := c.newWorkload(1)
	leader := c.leader()
	old := c.others(leader)[0]
	old.kill(t)
	l.use(c.others(old))
	for i := range 300 {
		c.put(leader, fmt.Sprintf("filling/%d", i%50), strings.Repeat("x", 4096))
	}
	// The log is cut below what is durable, which a restart makes sure of.
	for _, m := range c.others(old) {
		m.stop(t)
		m.start(t)
	}
	leader = c.leader(c.others(old)...)
	old.wipe(t)
	for _, old.state = range []string{"new", "existing"} {
		if old.state == "existing" && old.binary != program {
			continue // etcd lets it join, and vote without what it has acknowledged
		}
		old.launch(t)
		old.waitEnd(t)
		if !strings.Contains(old.process.Log.String(), "has already been bootstrapped") {
			t.Errorf("a wiped member began with --initial-cluster-state=%s:\n%s", old.state, old.process.Log.Tail(5))
		}
	}
	c.remove(leader, old)
	x := c.add(leader, false)
	l.use(c.members)
	l.progress(c, 20)
	l.end(c)
	if x.binary == program && !strings.Contains(x.process.Log.String(), "received a snapshot") {
		t.Errorf("%s was not sent a snapshot", x.name)
	}
}

// TestTheLeaderIsRemoved after a learner was added and promoted in its place.
func TestTheLeaderIsRemoved(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	w := c.newWorkload(1)
	w.progress(c, 20)
	old := c.leader()
	x := c.add(old, true)
	c.promote(c.leader(), x)
	old = c.leader()
	rest := c.others(old)
	w.use(rest)
	c.remove(old, old) // it removes itself
	old.waitEnd(t)
	c.leader()
	w.progress(c, 50)
	w.end(c)
	if list := c.memberList(c.members[0]); len(list.Members) != 3 {
		t.Errorf("the members are %v", list.Members)
	}
}

// TestAFollowerComesBackByASnapshot: while it is away the others write on and cut their logs.
func TestAFollowerComesBackByASnapshot(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, "--snapshot-catchup-entries", "10", "--snapshot-count", "100")
	w := c.newWorkload(1)
	w.progress(c, 20)
	old := c.others(c.leader())[0]
	old.kill(t)
	rest := c.others(old)
	w.use(rest)
	c.leader(rest...)
	w.progress(c, 200)
	for _, m := range rest { // the log is cut below what is durable, which a restart makes sure of
		m.stop(t)
		m.start(t)
		c.leader(rest...)
	}
	w.progress(c, 20)
	old.start(t)
	w.use(c.members)
	w.progress(c, 50)
	w.end(c)
	if old.binary == program && !old.process.WaitFor("received a snapshot") {
		t.Errorf("%s was not sent a snapshot", old.name)
	}
}

// TestAMemberThatWasAwayGetsNoSnapshot although it has missed more than the log usually keeps: not as a follower, not when it led
// and another one does now, and not when it is killed once more as it comes back.
func TestAMemberThatWasAwayGetsNoSnapshot(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	w := c.newWorkload(1)
	w.progress(c, 20)
	for _, led := range []bool{false, true} {
		old := c.leader()
		if !led {
			old = c.others(old)[0]
		}
		old.kill(t)
		rest := c.others(old)
		w.use(rest)
		c.putMuch(c.leader(rest...), 6000)
		for range 2 { // the log is cut when the state was flushed
			for _, m := range rest {
				c.again("a defragmentation", func() error {
					_, err := c.client(m).Defragment(c.within(), m.client)
					return err
				})
			}
			w.progress(c, 20)
		}
		old.launch(t)
		old.kill(t)
		old.start(t)
		if old.binary == program && old.process.Log.Last("received a snapshot") != "" {
			t.Errorf("%s was sent a snapshot; it led before: %v", old.name, led)
		}
		w.use(c.members)
		w.progress(c, 50)
	}
	w.end(c)
}

// putMuch puts so many times, or a little less while there are elections, by clients enough for that to take a few seconds.
func (c *cluster) putMuch(at *member, n int64) {
	c.Helper()
	cl := c.client(at)
	var next atomic.Int64
	var wg sync.WaitGroup
	for k := range 50 {
		wg.Go(func() {
			for next.Add(1) <= n {
				if _, err := cl.Put(c.within(), fmt.Sprintf("much/%d", k), "x"); err != nil && !passes(err) {
					c.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestALearnerServesLittle(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	voter := c.members[0]
	c.put(voter, "a", "1")
	x := c.add(voter, true)
	cl := c.client(x)
	refused := "etcdserver: rpc not supported for learner"
	for name, ask := range map[string]func() error{
		"a put":               func() error { _, err := cl.Put(c.within(), "a", "2"); return err },
		"a linearizable read": func() error { _, err := cl.Get(c.within(), "a"); return err },
		"the members":         func() error { _, err := cl.MemberList(c.within()); return err },
		"a lease":             func() error { _, err := cl.Grant(c.within(), 10); return err },
	} {
		if err := ask(); err == nil || err.Error() != refused {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s, err := c.status(x); err != nil || !s.IsLearner {
		t.Errorf("the status: %v, %v", s, err)
	}
	c.eventually("a serializable read", func() bool {
		got, err := cl.Get(c.within(), "a", clientv3.WithSerializable())
		if err != nil {
			t.Fatal(err)
		}
		return len(got.Kvs) == 1
	})
	c.promote(voter, x)
	c.eventually("a put after it knows of its promotion", func() bool {
		_, err := cl.Put(c.within(), "a", "2")
		return err == nil
	})
	c.checkEqual()
}

func TestAMemberMoves(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	l := c.newWorkload(1)
	x := c.others(c.leader())[0]
	public := process.FreeAddress(t)
	c.network.proxy(t, public, strings.TrimPrefix(x.listen, "http://"), x.number)
	c.again("an update of "+x.name, func() error {
		_, err := c.client(x).MemberUpdate(c.within(), x.id, []string{"http://" + public})
		return err
	})
	x.peer = "http://" + public
	x.vanish()
	l.progress(c, 50)
	c.eventually("the member keeps up at its new address", func() bool {
		at, err := c.status(x)
		leader, lerr := c.status(c.leader())
		return err == nil && lerr == nil && at.Leader == leader.Leader && at.RaftAppliedIndex+20 > leader.RaftAppliedIndex
	})
	x.kill(t)
	x.start(t)
	l.progress(c, 50)
	for _, m := range c.memberList(x).Members {
		if m.ID == x.id && m.PeerURLs[0] != x.peer {
			t.Errorf("%s is at %v", x.name, m.PeerURLs)
		}
	}
	l.end(c)
}
