package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
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
	c := makeClusterOf(tb, programs, extra...)
	c.launch()
	return c
}

// makeClusterOf makes a member of each program, which are to found a cluster.
func makeClusterOf(tb testing.TB, programs []string, extra ...string) *cluster {
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
	return c
}

// launch starts all members for the first time and waits until they serve.
func (c *cluster) launch() {
	c.Helper()
	for _, m := range c.members {
		m.launch(c)
	}
	for _, m := range c.members {
		m.waitReady(c)
	}
	c.Cleanup(func() {
		for _, m := range c.members {
			if c.Failed() && m.process != nil {
				c.Logf("end of the log of %s:\n%s", m.name, m.process.Log.Tail(40))
			}
		}
	})
}

// killAll kills all members at once and starts them again.
func (c *cluster) killAll() {
	c.Helper()
	for _, m := range c.members {
		m.signal(c, syscall.SIGKILL)
	}
	for _, m := range c.members {
		m.waitEnd(c)
		m.launch(c)
	}
	for _, m := range c.members {
		m.waitReady(c)
	}
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
	rev := c.get(c.leader(), "x").Header.Revision
	var first *clientv3.HashKVResponse
	for _, m := range c.members {
		c.get(m, "x") // it has applied all of that
		var h *clientv3.HashKVResponse
		c.again("the hash of "+m.name, func() (err error) {
			h, err = c.client(m).HashKV(c.within(), m.client, rev)
			return err
		})
		if first == nil {
			first = h
		}
		if h.Hash != first.Hash && h.CompactRevision == first.CompactRevision {
			c.Errorf("%s has the hash %x at revision %d, %s has %x", m.name, h.Hash, rev, c.members[0].name, first.Hash)
		}
	}
}
