package cluster

import (
	"strings"
	"testing"

	"github.com/ashlar-kv/ashlar/test/process"
)

// TestAClusterBeginsAnewFromOneMember loses two of three members for good and goes on with the third one, which then grows again.
func TestAClusterBeginsAnewFromOneMember(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	for _, m := range c.members {
		c.fill(m)
	}
	left := c.members[2]
	lost := c.others(left)
	get, err := c.client(left).Get(c.within(), "fill/3")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range c.members {
		m.kill(t)
	}
	left.extra = append(left.extra, "--force-new-cluster")
	c.members = []*member{left}
	left.start(t)
	again, err := c.client(left).Get(c.within(), "fill/3")
	if err != nil || len(again.Kvs) != 1 || again.Kvs[0].ModRevision != get.Kvs[0].ModRevision {
		t.Fatalf("got %v, %v; want what there was: %v", again, err, get)
	}
	if l := c.memberList(left); len(l.Members) != 1 || l.Members[0].ID != left.id {
		t.Fatalf("the members are %v", l.Members)
	}
	c.fill(left)

	// The flag stays where it is: what was acknowledged must stay too.
	put, err := c.client(left).Put(c.within(), "acknowledged", "v")
	if err != nil {
		t.Fatal(err)
	}
	left.kill(t)
	left.start(t)
	if r, err := c.client(left).Get(c.within(), "acknowledged"); err != nil || len(r.Kvs) != 1 || r.Kvs[0].ModRevision != put.Header.Revision {
		t.Fatalf("got %v, %v", r, err)
	}

	// One of the lost is found again: it is told that it is no member.
	lost[0].launch(t)
	if !lost[0].process.WaitFor("permanently removed") {
		t.Errorf("a member of the old cluster is not told; its log ends with:\n%s", lost[0].process.Log.Tail(10))
	}

	left.extra = left.extra[:len(left.extra)-1]
	left.stop(t)
	left.start(t)
	for range 2 {
		x := c.add(left, true)
		c.promote(left, x)
		c.eventually("that "+x.name+" knows of its promotion", func() bool {
			s, err := c.status(x)
			return err == nil && !s.IsLearner
		})
		c.fill(x)
	}
	c.checkEqual()
	c.checkLeasesAgree()
}

func TestForcingANewClusterOfNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, "--force-new-cluster") // as in etcd, it founds one
	c.fill(c.members[0])
	p := process.Start(t, t.TempDir(), nil, program, "--help")
	p.WaitEnd(t)
	if !strings.Contains(p.Output.String(), "--force-new-cluster 'false'") {
		t.Error("help does not show the flag")
	}
}
