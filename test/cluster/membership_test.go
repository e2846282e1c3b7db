package cluster

import (
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

type pbMember = etcdserverpb.Member

func TestMembersAreReplacedOneByOne(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	l := c.newLoad(4)
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

func TestARemovedMemberNeverComesBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	old := c.others(c.leader())[0]
	old.kill(t)
	c.remove(c.leader(c.others(old)...), old)
	old.launch(t)
	old.waitEnd(t)
	if !strings.Contains(old.process.log.String(), "removed") {
		t.Errorf("%s does not say why it ended:\n%s", old.name, old.process.log.tail(5))
	}
	c.checkEqual()
}

func TestAWipedMemberIsWholeAgain(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, "--snapshot-catchup-entries", "10", "--snapshot-count", "100")
	l := c.newLoad(4)
	leader := c.leader()
	old := c.others(leader)[0]
	old.kill(t)
	l.use(c.others(old))
	for i := range 300 {
		if _, err := c.client(leader).Put(c.within(), fmt.Sprintf("filling/%d", i%50), strings.Repeat("x", 4096)); err != nil {
			t.Fatal(err)
		}
	}
	// The log is cut below what is durable, which a restart makes sure of.
	for _, m := range c.others(old) {
		m.stop(t)
		m.start(t)
	}
	leader = c.leader(c.others(old)...)
	old.wipe(t)
	old.launch(t)
	old.waitEnd(t)
	if !strings.Contains(old.process.log.String(), "has already been bootstrapped") {
		t.Errorf("a wiped member founded a cluster:\n%s", old.process.log.tail(5))
	}
	c.remove(leader, old)
	x := c.add(leader, false)
	l.use(c.members)
	l.progress(c, 20)
	l.end(c)
	if x.binary == program && !strings.Contains(x.process.log.String(), "received a snapshot") {
		t.Errorf("%s was not sent a snapshot", x.name)
	}
}
