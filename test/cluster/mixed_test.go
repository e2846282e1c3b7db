package cluster

import (
	"errors"
	"flag"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// etcds are the programs of etcd that clusters are mixed with, by release; test/etcd36 and test/etcd37 build them.
var etcds = map[string]*string{
	"3.6": flag.String("etcd36", "", "the program of etcd 3.6, for mixed clusters"),
	"3.7": flag.String("etcd37", "", "the program of etcd 3.7, for mixed clusters"),
}

// corruptionChecks are on at all members: any difference of the keys raises an alarm.
var corruptionChecks = []string{
	"--feature-gates=InitialCorruptCheck=true,CompactHashCheck=true", "--corrupt-check-time=2s", "--compact-hash-check-time=1s",
}

// runs says which program serves the member from its next start on.
func (m *member) runs(binary string) { m.binary = binary }

// eachEtcd runs a test with each release of etcd that is there, and skips the others by name.
func eachEtcd(t *testing.T, run func(t *testing.T, etcd string)) {
	t.Helper()
	for release, etcd := range etcds {
		t.Run("etcd "+release, func(t *testing.T) {
			t.Parallel()
			if *etcd == "" {
				t.Skipf("it needs the program of etcd %s: go test ./test/cluster -run Mixed -args -etcd%s PROGRAM", release,
					strings.ReplaceAll(release, ".", ""))
			}
			run(t, *etcd)
		})
	}
}

// TestMixedClusters has two members of one kind and one of the other, each kind leading in its turn.
func TestMixedClusters(t *testing.T) {
	t.Parallel()
	eachEtcd(t, func(t *testing.T, etcd string) {
		for name, programs := range map[string][]string{
			"two of ours": {program, program, etcd},
			"one of ours": {program, etcd, etcd},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				c := newClusterOf(t, programs, corruptionChecks...)
				for _, leader := range []*member{c.members[2], c.members[0]} {
					c.lead(leader)
					for _, m := range c.members {
						c.fill(m)
					}
					c.renewAndEnd(leader)
					c.awaitCompactHashCheck(leader)
					c.alarm(c.members[0], c.members[2])
					c.alarm(c.members[2], c.members[0])
					c.checkEqual()
					c.checkLeasesAgree()
				}
				for _, m := range c.members { // each one restarts, and compares its content with that of the others then
					m.stop(t)
					m.start(t)
					c.fill(m)
				}
				c.checkEqual()
				c.checkNoAlarm()
			})
		}
	})
}

// TestMixedClustersUnderLoad has clients work while leadership moves between the kinds, a leader of each kind is killed, and one of
// each is cut off. Nobody takes leases: a leader of etcd renews them, or says that there are none, without asking a quorum whether it
// still leads.
func TestMixedClustersUnderLoad(t *testing.T) {
	t.Parallel()
	eachEtcd(t, func(t *testing.T, etcd string) {
		for name, programs := range map[string][]string{
			"two of ours": {program, program, etcd},
			"one of ours": {program, etcd, etcd},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				c := newClusterOf(t, programs, corruptionChecks...)
				w := c.newWorkloadWith(1, 0)
				for _, leader := range []*member{c.members[2], c.members[0]} {
					c.lead(leader)
					w.progress(c, 50)
					leader.kill(t)
					c.leader(c.others(leader)...)
					w.progress(c, 50)
					leader.start(t)
					c.lead(leader)
					c.network.isolate(c.members, leader, true, true)
					c.leader(c.others(leader)...)
					w.progress(c, 50)
					c.network.heal()
					c.follows(leader)
				}
				w.end(c)
				c.checkNoAlarm()
			})
		}
	})
}

// renewAndEnd grants leases at each member, renews them at all others, and lets one end.
func (c *cluster) renewAndEnd(leader *member) {
	c.Helper()
	for _, at := range c.members {
		g := c.grant(at, 2000)
		c.put(at, "lease/"+at.name, "v", clientv3.WithLease(g.ID))
		for _, m := range c.members {
			if r := c.renew(m, g.ID); r.TTL != 2000 {
				c.Errorf("renewing at %s a lease of %s under %s: %v", m.name, at.name, leader.name, r)
			}
			if r := c.timeToLive(m, g.ID); len(r.Keys) != 1 || r.TTL < 1000 {
				c.Errorf("the time of a lease of %s, asked at %s under %s: %v", at.name, m.name, leader.name, r)
			}
		}
		c.revoke(at, g.ID)
	}
	c.again("a key on a short lease", func() error { // the lease may have ended on the way
		_, err := c.client(c.members[2]).Put(c.within(), "short", "v", clientv3.WithLease(c.grant(c.members[0], 2).ID))
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return rpctypes.ErrTimeout
		}
		return err
	})
	for _, m := range c.members {
		c.eventually("the end of a lease at "+m.name, func() bool {
			r, err := c.client(m).Get(c.within(), "short")
			return err == nil && r.Count == 0
		})
	}
}

// alarm raises NOSPACE at one member, which must count at all, and lowers it at another one.
func (c *cluster) alarm(raise, lower *member) {
	c.Helper()
	at := etcdserverpb.NewMaintenanceClient(c.client(raise).ActiveConnection())
	alarm := &etcdserverpb.AlarmRequest{Action: etcdserverpb.AlarmRequest_ACTIVATE, MemberID: raise.id, Alarm: etcdserverpb.AlarmType_NOSPACE}
	c.again("an alarm raised at "+raise.name, func() error {
		_, err := at.Alarm(c.within(), alarm)
		return err
	})
	for _, m := range c.members {
		c.get(m, "x") // all that was before is applied here
		if _, err := c.client(m).Put(c.within(), "alarm", "v"); err == nil || !strings.Contains(err.Error(), "database space exceeded") {
			c.Errorf("%s has raised an alarm, a put at %s got %v", raise.name, m.name, err)
		}
	}
	c.again("an alarm lowered at "+lower.name, func() error {
		_, err := c.client(lower).AlarmDisarm(c.within(), &clientv3.AlarmMember{MemberID: raise.id, Alarm: etcdserverpb.AlarmType_NOSPACE})
		return err
	})
	for _, m := range c.members {
		c.get(m, "x")
		c.put(m, "alarm", m.name)
	}
}

// awaitCompactHashCheck waits until a leader has compared the hashes of a compaction with those of all others.
func (c *cluster) awaitCompactHashCheck(leader *member) {
	c.Helper()
	c.eventually("a comparison of compactions", func() bool {
		c.lead(leader)
		r, err := c.client(leader).Put(c.within(), "compacted", "v")
		if err != nil {
			return false
		}
		c.client(leader).Compact(c.within(), r.Header.Revision) // it may come too soon after a leader was lost: then again
		return strings.Contains(leader.process.Log.String(), "finished compaction hash check")
	})
}

// checkNoAlarm checks that nobody has found a difference.
func (c *cluster) checkNoAlarm() {
	c.Helper()
	for _, m := range c.members {
		if l := c.alarms(m); len(l) > 0 {
			c.Errorf("the alarms at %s: %v", m.name, l)
		}
	}
}

// TestMixedSnapshots has a member of each kind bring a member of the other kind up to date, by a snapshot.
func TestMixedSnapshots(t *testing.T) {
	t.Parallel()
	eachEtcd(t, func(t *testing.T, etcd string) {
		kinds := map[string]struct{ from, to, sent string }{
			"from ours to theirs": {program, etcd, "sent a snapshot"},
			"from theirs to ours": {etcd, program, "received a snapshot"},
		}
		for name, k := range kinds {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				snapshotBetween(t, k.from, k.to, k.sent)
			})
		}
	})
}

// snapshotBetween has a member of one kind fall behind two of the other, which have cut their logs when it comes back.
func snapshotBetween(t *testing.T, from, to, sent string) {
	t.Helper()
	c := newClusterOf(t, []string{from, from, to}, append([]string{"--snapshot-count", "50", "--snapshot-catchup-entries", "5"}, corruptionChecks...)...)
	x := c.members[2]
	c.fill(x)
	x.stop(t)
	before := c.others(x)
	for _, m := range before {
		c.fill(m)
		m.stop(t)
		m.start(t) // which cuts our log
	}
	c.leader(before...)
	c.fill(before[0])
	x.start(t)
	c.fill(x)
	c.eventually("a snapshot", func() bool {
		for _, m := range c.members {
			if strings.Contains(m.process.Log.String(), sent) {
				return true
			}
		}
		return false
	})
	c.checkEqual()
	c.checkLeasesAgree()
	// It is as good as the others: it goes on alone.
	for _, m := range before {
		c.lead(x)
		c.remove(x, m)
		m.waitEnd(t)
	}
	c.fill(x)
	x.stop(t)
	x.start(t)
	c.fill(x)
	c.checkNoAlarm()
}

// fill does a bit of everything at a member, with values that lie apart from their keys, too.
func (c *cluster) fill(at *member) {
	c.Helper()
	g := c.grant(at, 1000)
	for i := range 60 {
		c.put(at, fmt.Sprintf("fill/%d", i%20), strings.Repeat("v", i*100), clientv3.WithLease(g.ID*clientv3.LeaseID(i%2)))
	}
	c.again("a deletion", func() error {
		_, err := c.client(at).Delete(c.within(), "fill/3")
		return err
	})
	c.again("a transaction and a compaction", func() error {
		resp, err := c.client(at).Txn(c.within()).Then(clientv3.OpPut("fill/a", "1"), clientv3.OpPut("fill/b", "2"), clientv3.OpDelete("fill/4")).Commit()
		if err == nil {
			_, err = c.client(at).Compact(c.within(), resp.Header.Revision-10)
		}
		return err
	})
	c.put(at, "fill/3", "again")
}

// checkLeasesAgree checks that every member knows the same leases with the same keys.
func (c *cluster) checkLeasesAgree() {
	c.Helper()
	first := ""
	for _, m := range c.members {
		all := c.leases(m)
		var text []string
		for _, l := range all.Leases {
			s := c.timeToLive(m, l.ID)
			text = append(text, fmt.Sprintf("%x %d %q", s.ID, s.GrantedTTL, s.Keys))
		}
		if found := strings.Join(text, "; "); first == "" {
			first = found
		} else if len(found) != len(first) {
			c.Errorf("the leases of %s are %s, want %s", m.name, found, first)
		}
	}
}
