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
		if _, err := c.client(m).Put(c.within(), key, m.name); err != nil {
			t.Fatalf("putting at %s: %v", m.name, err)
		}
		for _, o := range c.members {
			got, err := c.client(o).Get(c.within(), key)
			if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != m.name {
				t.Fatalf("getting at %s what was put at %s: %v, %v", o.name, m.name, got, err)
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
		cl := c.client(m)
		g, err := cl.Grant(c.within(), 60)
		if err != nil {
			c.Fatalf("granting at %s: %v", m.name, err)
		}
		if _, err := cl.Put(c.within(), "leased", "x", clientv3.WithLease(g.ID)); err != nil {
			c.Fatal(err)
		}
		for _, o := range c.members {
			if k, err := c.client(o).KeepAliveOnce(c.within(), g.ID); err != nil || k.TTL != 60 {
				c.Fatalf("renewing at %s: %v, %v", o.name, k, err)
			}
			s, err := c.client(o).TimeToLive(c.within(), g.ID, clientv3.WithAttachedKeys())
			if err != nil || s.GrantedTTL != 60 || s.TTL < 30 || len(s.Keys) != 1 {
				c.Fatalf("asking %s for a lease: %v, %v", o.name, s, err)
			}
			if _, err := c.client(o).KeepAliveOnce(c.within(), 12345); err == nil {
				c.Fatalf("%s renewed a lease that is not there", o.name)
			}
			if all, err := c.client(o).Leases(c.within()); err != nil || len(all.Leases) != 1 {
				c.Fatalf("the leases of %s: %v, %v", o.name, all, err)
			}
		}
		if _, err := cl.Revoke(c.within(), g.ID); err != nil {
			c.Fatal(err)
		}
	}
}

func TestLeadershipMoves(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	l := c.newWorkload(1)
	for range 3 {
		from := c.leader()
		to := c.others(from)[0]
		if _, err := c.client(from).MoveLeader(c.within(), to.id); err != nil {
			t.Fatalf("moving from %s to %s: %v", from.name, to.name, err)
		}
		if now := c.leader(); now != to {
			t.Errorf("%s leads, want %s", now.name, to.name)
		}
		if _, err := c.client(from).MoveLeader(c.within(), from.id); err == nil {
			t.Error("a follower moved leadership")
		}
		l.progress(c, 20)
	}
	l.end(c)
}
