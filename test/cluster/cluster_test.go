package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	ourcluster "github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/test/process"
)

// token is the same for all clusters.
const token = "cluster-test"

// cluster is some members and the network between them.
type cluster struct {
	testing.TB
	members []*member
	network *network
	next    int    // number of the next member
	binary  string // what members that are added run
	extra   []string
}

// newCluster starts n members with more flags.
func newCluster(tb testing.TB, n int, extra ...string) *cluster {
	tb.Helper()
	programs := make([]string, n)
	for i := range programs {
		programs[i] = program
		if *otherFlag != "" && i >= n-*othersFlag {
			programs[i] = *otherFlag
		}
	}
	return newClusterOf(tb, programs, extra...)
}

// newClusterOf starts a member of each program.
func newClusterOf(tb testing.TB, programs []string, extra ...string) *cluster {
	tb.Helper()
	c := &cluster{TB: tb, network: newNetwork(tb), binary: program, extra: extra}
	var initial []string
	for _, binary := range programs {
		m := c.make()
		m.runs(binary)
		initial = append(initial, m.name+"="+m.peer)
		m.state = "new"
	}
	text := strings.Join(initial, ",")
	ic, err := ourcluster.ParseInitialCluster(text)
	if err != nil {
		tb.Fatal(err)
	}
	founding, err := ourcluster.Found(ic, token)
	if err != nil {
		tb.Fatal(err)
	}
	for _, m := range c.members {
		x, _ := founding.ByName(m.name)
		m.initial = text
		c.know(m, uint64(x.ID))
	}
	for _, m := range c.members {
		m.launch(tb)
	}
	for _, m := range c.members {
		m.waitReady(tb)
	}
	tb.Cleanup(func() {
		for _, m := range c.members {
			if tb.Failed() && m.process != nil {
				tb.Logf("end of the log of %s:\n%s", m.name, m.process.Log.Tail(40))
			}
		}
	})
	return c
}

// make adds a member that has not run yet.
func (c *cluster) make() *member {
	c.Helper()
	m := &member{
		number: c.next, name: fmt.Sprintf("m%d", c.next), binary: program, dir: c.TempDir(),
		client: "http://" + process.FreeAddress(c), extra: c.extra,
	}
	c.next++
	public, behind := process.FreeAddress(c), process.FreeAddress(c)
	m.peer, m.listen = "http://"+public, "http://"+behind
	m.vanish = c.network.proxy(c, public, behind, m.number)
	c.members = append(c.members, m)
	return m
}

// know tells the network a member's id.
func (c *cluster) know(m *member, id uint64) {
	m.id = id
	c.network.change(func() { c.network.numbers[fmt.Sprintf("%x", id)] = m.number })
}

// within bounds a request.
func (c *cluster) within() context.Context {
	c.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), process.Patience)
	c.Cleanup(cancel)
	return ctx
}

// client is a stock client of one member. It is closed with the test.
func (c *cluster) client(m *member) *clientv3.Client {
	c.Helper()
	if m.conn == nil {
		cl, err := clientv3.New(clientv3.Config{Endpoints: []string{m.client}, DialTimeout: process.Patience})
		if err != nil {
			c.Fatal(err)
		}
		c.Cleanup(func() { cl.Close() })
		m.conn = cl
	}
	return m.conn
}

// status asks one member, shortly.
func (c *cluster) status(m *member) (*clientv3.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return c.client(m).Status(ctx, m.client)
}

// leader waits until one of the members given, or of all, is known as the leader by itself, and returns it.
func (c *cluster) leader(among ...*member) *member {
	c.Helper()
	if len(among) == 0 {
		among = c.members
	}
	var found *member
	c.eventually("a leader", func() bool {
		for _, m := range among {
			if s, err := c.status(m); err == nil && s.Leader == m.id {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

// others returns all members but some.
func (c *cluster) others(but ...*member) []*member {
	return slices.DeleteFunc(slices.Clone(c.members), func(m *member) bool { return slices.Contains(but, m) })
}

// eventually waits until ok.
func (c *cluster) eventually(what string, ok func() bool) {
	c.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(process.Patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			c.Fatalf("it does not come to pass: %s", what)
		}
	}
}

// checkEqual waits until all members have the same keys, by their hash at one revision.
func (c *cluster) checkEqual() {
	c.Helper()
	get, err := c.client(c.leader()).Get(c.within(), "x")
	if err != nil {
		c.Fatal(err)
	}
	rev := get.Header.Revision
	var first *clientv3.HashKVResponse
	for _, m := range c.members {
		if _, err := c.client(m).Get(c.within(), "x"); err != nil {
			c.Fatalf("reading at %s: %v", m.name, err)
		}
		h, err := c.client(m).HashKV(c.within(), m.client, rev)
		if err != nil {
			c.Fatalf("the hash of %s: %v", m.name, err)
		}
		if first == nil {
			first = h
		}
		if h.Hash != first.Hash && h.CompactRevision == first.CompactRevision {
			c.Errorf("%s has the hash %x at revision %d, %s has %x", m.name, h.Hash, rev, c.members[0].name, first.Hash)
		}
	}
}

// memberList returns the members as one of them knows them.
func (c *cluster) memberList(at *member) *clientv3.MemberListResponse {
	c.Helper()
	l, err := c.client(at).MemberList(c.within())
	if err != nil {
		c.Fatal(err)
	}
	return l
}

// add adds a member through at and starts it.
func (c *cluster) add(at *member, learner bool) *member {
	c.Helper()
	return c.addAs(at, c.binary, learner)
}

// addAs adds a member that runs a program.
func (c *cluster) addAs(at *member, binary string, learner bool) *member {
	c.Helper()
	m := c.make()
	m.runs(binary)
	var resp *clientv3.MemberAddResponse
	c.eventually("the addition of a member", func() (ok bool) {
		var err error
		if learner {
			resp, err = c.client(at).MemberAddAsLearner(c.within(), []string{m.peer})
		} else {
			resp, err = c.client(at).MemberAdd(c.within(), []string{m.peer})
		}
		if err != nil && !strings.Contains(err.Error(), "unhealthy cluster") {
			c.Fatalf("adding a member: %v", err)
		}
		return err == nil
	})
	c.know(m, resp.Member.ID)
	var initial []string
	for _, x := range resp.Members {
		name := x.Name
		if x.ID == m.id {
			name = m.name
		}
		for _, u := range x.PeerURLs {
			initial = append(initial, name+"="+u)
		}
	}
	m.initial, m.state = strings.Join(initial, ","), "existing"
	m.start(c)
	return m
}

// promote makes a voter of a learner once it has caught up.
func (c *cluster) promote(at, x *member) {
	c.Helper()
	c.eventually("the promotion of "+x.name, func() bool {
		_, err := c.client(at).MemberPromote(c.within(), x.id)
		if err != nil && !strings.Contains(err.Error(), "in sync with leader") {
			c.Fatalf("promoting %s: %v", x.name, err)
		}
		return err == nil
	})
}

// remove removes a member through another one and forgets it.
func (c *cluster) remove(at, x *member) {
	c.Helper()
	c.eventually("the removal of "+x.name, func() bool {
		_, err := c.client(at).MemberRemove(c.within(), x.id)
		if err != nil && !strings.Contains(err.Error(), "unhealthy cluster") {
			c.Fatalf("removing %s: %v", x.name, err)
		}
		return err == nil
	})
	c.members = c.others(x)
}
