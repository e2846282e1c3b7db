package cluster

import (
	"context"
	"syscall"
	"testing"
	"time"
)

func TestTheLeaderIsKilled(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	l := c.newWorkload(1)
	for range 2 {
		l.progress(c, 50)
		old := c.leader()
		l.pause()
		old.kill(t)
		c.leader(c.others(old)...)
		l.progress(c, 50)
		t.Logf("nobody could write for %v", l.pause())
		old.start(t)
	}
	l.end(c)
}

func TestALeaderThatStopsHandsOver(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	l := c.newWorkload(1)
	l.progress(c, 50)
	old := c.leader()
	l.pause()
	old.stop(t)
	l.progress(c, 50)
	t.Logf("nobody could write for %v", l.pause())
	if !old.process.WaitFor("handed leadership over") && old.binary == program {
		t.Error("leadership was not handed over")
	}
	old.start(t)
	l.end(c)
}

func TestAllAreKilledAtOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	l := c.newWorkload(1)
	l.progress(c, 100)
	c.killAll()
	l.progress(c, 50)
	l.end(c)
}

func TestALeaderStandsStill(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	l := c.newWorkload(1)
	l.progress(c, 50)
	old := c.leader()
	l.pause()
	old.signal(t, syscall.SIGSTOP)
	c.leader(c.others(old)...)
	l.progress(c, 50)
	t.Logf("nobody could write for %v", l.pause())
	old.signal(t, syscall.SIGCONT)
	c.follows(old)
	l.end(c)
}

func TestALeaderIsCutOff(t *testing.T) {
	t.Parallel()
	cuts := map[string]struct{ in, out bool }{
		"in both directions": {true, true}, "so that nobody hears it": {false, true}, "so that it hears nobody": {true, false},
	}
	for name, cut := range cuts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 3)
			l := c.newWorkload(1)
			l.progress(c, 50)
			old := c.leader()
			c.network.isolate(c.members, old, cut.in, cut.out)
			c.leader(c.others(old)...)
			l.progress(c, 50)
			c.network.heal()
			c.follows(old)
			l.end(c)
		})
	}
}

func TestTheNetworkIsSlow(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.network.slow(30 * time.Millisecond)
	l := c.newWorkload(1)
	l.progress(c, 30)
	c.network.heal()
	l.progress(c, 30)
	l.end(c)
}

// TestTheNetworkLosesPackets, one in ten, and delays all of them. TCP sends them again; see network.lose.
func TestTheNetworkLosesPackets(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	w := c.newWorkload(1)
	w.progress(c, 20)
	c.network.lose(0.1, 10*time.Millisecond)
	w.progress(c, 30)
	c.network.heal()
	w.progress(c, 20)
	w.end(c)
}

// TestNobodyHearsAnybody: no member has a majority on its side. Nothing is decided until the network is whole again.
func TestNobodyHearsAnybody(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	w := c.newWorkload(1)
	w.progress(c, 50)
	for _, m := range c.members {
		c.network.isolate(c.members, m, true, true)
	}
	c.eventually("nobody leads", func() bool {
		for _, m := range c.members {
			if s, err := c.status(m); err != nil || s.Leader != 0 {
				return false
			}
		}
		return true
	})
	ctx, cancel := context.WithTimeout(t.Context(), requestTime)
	defer cancel()
	if _, err := c.client(c.members[0]).Put(ctx, "alone", "x"); err == nil {
		t.Error("a member alone acknowledged a put")
	}
	c.network.heal()
	w.progress(c, 50)
	w.end(c)
}
