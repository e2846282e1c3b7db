package cluster

import (
	"slices"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestEveryMemberServes(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	for i, m := range c.members {
		key := string(rune('a' + i))
		c.put(m, key, m.name)
		for _, o := range c.members {
			if got := c.get(o, key); len(got.Kvs) != 1 || string(got.Kvs[0].Value) != m.name {
				t.Fatalf("getting at %s what was put at %s: %v", o.name, m.name, got)
			}
		}
	}
	for _, m := range c.members {
		l := c.memberList(m)
		if len(l.Members) != 3 || slices.ContainsFunc(l.Members, func(x *pbMember) bool { return x.Name == "" || len(x.ClientURLs) != 1 }) {
			t.Errorf("%s knows the members %v", m.name, l.Members)
		}
	}
	c.checkLeases()
	c.checkEqual()
}

// checkLeases grants, renews, asks for and revokes a lease at every member.
func (c *cluster) checkLeases() {
	c.Helper()
	for _, m := range c.members {
		const ttl = 600
		g := c.grant(m, ttl)
		c.put(m, "leased", "x", clientv3.WithLease(g.ID))
		for _, o := range c.members {
			if k := c.renew(o, g.ID); k.TTL != ttl {
				c.Fatalf("renewing at %s: %v", o.name, k)
			}
			if s := c.timeToLive(o, g.ID); s.GrantedTTL != ttl || s.TTL < ttl/2 || len(s.Keys) != 1 {
				c.Fatalf("asking %s for a lease: %v", o.name, s)
			}
			if _, err := c.client(o).KeepAliveOnce(c.within(), 12345); err == nil {
				c.Fatalf("%s renewed a lease that is not there", o.name)
			}
			if all := c.leases(o); len(all.Leases) != 1 {
				c.Fatalf("the leases of %s: %v", o.name, all)
			}
		}
		c.revoke(m, g.ID)
	}
}

func TestLeadershipMoves(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	l := c.newWorkload(1)
	for range 3 {
		from := c.leader()
		to := c.others(from)[0]
		c.lead(to)
		if _, err := c.client(from).MoveLeader(c.within(), from.id); err == nil && c.leader() == to {
			t.Error("a follower moved leadership")
		}
		l.progress(c, 20)
	}
	l.end(c)
}
