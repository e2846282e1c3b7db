package cluster

import (
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestALostMemberThatIsStoppedTooEarlyAsksAgain: stopped by a signal while it asks the others whether it ran before, it leaves no data directory. With one the
// next start would ask nobody.
func TestALostMemberThatIsStoppedTooEarlyAsksAgain(t *testing.T) {
	t.Parallel()
	c := newClusterOf(t, []string{program, program, program})
	c.put(c.members[0], "acknowledged", "1")
	x := c.others(c.leader())[0]
	x.kill(t)
	x.wipe(t)
	before := map[*member]int{}
	for _, o := range c.others(x) {
		before[o] = c.network.came(way{stranger, o.number}) // at the founding
		c.network.change(func() { c.network.cut[way{stranger, o.number}] = true })
	}
	x.launch(t)
	for _, o := range c.others(x) {
		c.eventually(x.name+" asks "+o.name, func() bool { return c.network.came(way{stranger, o.number}) > before[o] })
	}
	x.stop(t)
	if !x.process.Log.Contains("stopping") || x.process.Log.Contains("asking the other members") {
		t.Errorf("it did not end in order: %s", x.process.Log.Tail(5))
	}
	if left, err := filepath.Glob(filepath.Join(x.dir, "data", "*")); err != nil || len(left) != 0 {
		t.Errorf("left: %q, %v", left, err)
	}
	c.network.heal()
	c.refuses(x)
}

// TestALostMemberWaitsForThoseThatAreBeingOpened: after a crash of the whole cluster they cannot say yet that it ran, however long that takes, and it must not
// vote for a majority without what it had acknowledged.
func TestALostMemberWaitsForThoseThatAreBeingOpened(t *testing.T) {
	t.Parallel()
	c := newClusterOnDisks(t, 3)
	c.put(c.members[0], "acknowledged", "1")
	x := c.others(c.leader())[0]
	for _, m := range c.members {
		m.signal(t, syscall.SIGKILL)
	}
	for _, m := range c.members {
		m.waitEnd(t)
	}
	x.wipe(t)
	for _, o := range c.others(x) {
		o.begins = stuckOpen
		o.launch(t)
		c.eventually(o.name+" is being opened", func() bool { return c.beingOpened(o) })
	}
	before := map[*member]int{}
	for _, o := range c.others(x) {
		before[o] = c.network.came(way{o.number, stranger})
	}
	founded := func() bool {
		_, err := os.Stat(filepath.Join(x.dir, "data", "ashlar"))
		return err == nil
	}
	x.launch(t)
	for _, o := range c.others(x) {
		const often = 3 // it asks again
		c.eventually(o.name+" answers "+x.name, func() bool {
			return x.process.State() != nil || founded() || c.network.came(way{o.number, stranger}) >= before[o]+often
		})
	}
	if founded() {
		t.Fatal("it has founded the cluster again")
	}
	for _, o := range c.others(x) {
		c.trouble(o, healthy)
	}
	x.waitEnd(t)
	c.wasRefused(x)
	for _, o := range c.others(x) {
		o.waitReady(t)
	}
	if got := c.get(c.others(x)[0], "acknowledged"); len(got.Kvs) != 1 {
		t.Error("what was acknowledged is lost")
	}
}

// beingOpened asks a member who is in the cluster, as one whose data were lost does.
func (c *cluster) beingOpened(m *member) bool {
	req, err := http.NewRequestWithContext(c.within(), http.MethodGet, m.listen+"/members", nil)
	if err != nil {
		c.Fatal(err)
	}
	req.Header.Set("X-Ashlar-Version", "3")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.Header.Get("X-Ashlar-Opening") != ""
}

// refuses starts a member whose data were lost, which the others do not let in.
func (c *cluster) refuses(x *member) {
	c.Helper()
	x.launch(c)
	x.waitEnd(c)
	c.wasRefused(x)
}

func (c *cluster) wasRefused(x *member) {
	c.Helper()
	if !x.process.Log.Contains("has already been bootstrapped") || x.process.State().ExitCode() == 0 {
		c.Errorf("%s was let in, or ended for something else: %s", x.name, x.process.Log.Tail(5))
	}
}
