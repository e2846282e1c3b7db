package cluster

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestSnapshotsBetweenTheKinds has a member of each kind bring a member of the other kind up to date, by a snapshot. It needs
// -other.
func TestSnapshotsBetweenTheKinds(t *testing.T) {
	t.Parallel()
	if *otherFlag == "" {
		t.Skip("it needs -other, a program of etcd")
	}
	if _, err := exec.LookPath(*otherFlag); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]struct{ from, to, sent string }{
		"from ours to theirs": {program, *otherFlag, "sent a snapshot"},
		"from theirs to ours": {*otherFlag, program, "received a snapshot"},
	}
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClusterOf(t, []string{k.from}, "--snapshot-count", "50", "--snapshot-catchup-entries", "5")
			first := c.members[0]
			c.fill(first)
			first.stop(t)
			first.start(t) // which cuts our log
			c.fill(first)
			x := c.addAs(first, k.to, false)
			log := first.process.Log
			if k.to == program {
				log = x.process.Log
			}
			if !strings.Contains(log.String(), k.sent) {
				t.Errorf("no snapshot was sent")
			}
			c.fill(x)
			c.checkEqual()
			c.checkLeasesAgree()
			// It is as good as the one before: it goes on alone.
			c.remove(x, first)
			first.waitEnd(t)
			c.leader()
			c.fill(x)
			c.checkEqual()
			x.stop(t)
			x.start(t)
			c.fill(x)
		})
	}
}

// fill does a bit of everything at a member.
func (c *cluster) fill(at *member) {
	c.Helper()
	cl := c.client(at)
	must := func(err error) {
		c.Helper()
		if err != nil {
			c.Fatal(err)
		}
	}
	g, err := cl.Grant(c.within(), 1000)
	must(err)
	for i := range 60 {
		_, err := cl.Put(c.within(), fmt.Sprintf("fill/%d", i%20), strings.Repeat("v", i*50), clientv3.WithLease(g.ID*clientv3.LeaseID(i%2)))
		must(err)
	}
	_, err = cl.Delete(c.within(), "fill/3")
	must(err)
	resp, err := cl.Txn(c.within()).Then(clientv3.OpPut("fill/a", "1"), clientv3.OpPut("fill/b", "2"), clientv3.OpDelete("fill/4")).Commit()
	must(err)
	_, err = cl.Compact(c.within(), resp.Header.Revision-10)
	must(err)
	_, err = cl.Put(c.within(), "fill/3", "again")
	must(err)
}

// checkLeasesAgree checks that every member knows the same leases with the same keys.
func (c *cluster) checkLeasesAgree() {
	c.Helper()
	first := ""
	for _, m := range c.members {
		all, err := c.client(m).Leases(c.within())
		if err != nil {
			c.Fatal(err)
		}
		var text []string
		for _, l := range all.Leases {
			s, err := c.client(m).TimeToLive(c.within(), l.ID, clientv3.WithAttachedKeys())
			if err != nil {
				c.Fatal(err)
			}
			text = append(text, fmt.Sprintf("%x %d %q", s.ID, s.GrantedTTL, s.Keys))
		}
		if found := strings.Join(text, "; "); first == "" {
			first = found
		} else if len(found) != len(first) {
			c.Errorf("the leases of %s are %s, want %s", m.name, found, first)
		}
	}
}
