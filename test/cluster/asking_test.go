package cluster

import (
	"errors"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A busy machine has elections that nobody wanted. They end requests without an answer, which is right: a test that is about
// something else asks again.

// passes says whether an error is one that a leader, or a connection, which is not there for a while gives.
func passes(err error) bool {
	if strings.Contains(err.Error(), "raft proposal dropped") { // as in etcd, of a leader that is about to be none
		return true
	}
	var told rpctypes.EtcdError
	if errors.As(err, &told) {
		return told.Code() == codes.Unavailable
	}
	return status.Code(err) == codes.Unavailable
}

// again makes a request until it is answered. It may be carried out more than once.
func (c *cluster) again(what string, request func() error) {
	c.Helper()
	c.eventually(what, func() bool {
		err := request()
		if err != nil && !passes(err) {
			c.Fatalf("%s: %v", what, err)
		}
		return err == nil
	})
}

// put puts a key through a member.
func (c *cluster) put(at *member, key, value string, options ...clientv3.OpOption) (resp *clientv3.PutResponse) {
	c.Helper()
	c.again("a put at "+at.name, func() (err error) {
		resp, err = c.client(at).Put(c.within(), key, value, options...)
		return err
	})
	return resp
}

// get reads a key through a member.
func (c *cluster) get(at *member, key string, options ...clientv3.OpOption) (resp *clientv3.GetResponse) {
	c.Helper()
	c.again("a get at "+at.name, func() (err error) {
		resp, err = c.client(at).Get(c.within(), key, options...)
		return err
	})
	return resp
}

// grant grants a lease through a member.
func (c *cluster) grant(at *member, ttl int64) (resp *clientv3.LeaseGrantResponse) {
	c.Helper()
	c.again("a lease at "+at.name, func() (err error) {
		resp, err = c.client(at).Grant(c.within(), ttl)
		return err
	})
	return resp
}

// renew renews a lease through a member.
func (c *cluster) renew(at *member, id clientv3.LeaseID) (resp *clientv3.LeaseKeepAliveResponse) {
	c.Helper()
	c.again("a renewal at "+at.name, func() (err error) {
		resp, err = c.client(at).KeepAliveOnce(c.within(), id)
		return err
	})
	return resp
}

// timeToLive asks a member about a lease.
func (c *cluster) timeToLive(at *member, id clientv3.LeaseID) (resp *clientv3.LeaseTimeToLiveResponse) {
	c.Helper()
	c.again("the time of a lease at "+at.name, func() (err error) {
		resp, err = c.client(at).TimeToLive(c.within(), id, clientv3.WithAttachedKeys())
		return err
	})
	return resp
}

// leases asks a member for all leases.
func (c *cluster) leases(at *member) (resp *clientv3.LeaseLeasesResponse) {
	c.Helper()
	c.again("the leases at "+at.name, func() (err error) {
		resp, err = c.client(at).Leases(c.within())
		return err
	})
	return resp
}

// revoke revokes a lease through a member.
func (c *cluster) revoke(at *member, id clientv3.LeaseID) {
	c.Helper()
	c.again("a revocation at "+at.name, func() error {
		_, err := c.client(at).Revoke(c.within(), id)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) { // by an earlier attempt
			return nil
		}
		return err
	})
}

// alarms asks a member for all alarms.
func (c *cluster) alarms(at *member) []*etcdserverpb.AlarmMember {
	c.Helper()
	var resp *clientv3.AlarmResponse
	c.again("the alarms at "+at.name, func() (err error) {
		resp, err = c.client(at).AlarmList(c.within())
		return err
	})
	return resp.Alarms
}

// memberList returns the members as one of them knows them.
func (c *cluster) memberList(at *member) (resp *clientv3.MemberListResponse) {
	c.Helper()
	c.again("the members at "+at.name, func() (err error) {
		resp, err = c.client(at).MemberList(c.within())
		return err
	})
	return resp
}

// findMember returns the member that at knows by its address, or nil.
func (c *cluster) findMember(at *member, peer string) (*etcdserverpb.Member, *clientv3.MemberListResponse) {
	c.Helper()
	list := c.memberList(at)
	if i := slices.IndexFunc(list.Members, func(x *etcdserverpb.Member) bool { return slices.Contains(x.PeerURLs, peer) }); i >= 0 {
		return list.Members[i], list
	}
	return nil, list
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
	var added *etcdserverpb.Member
	var list *clientv3.MemberListResponse
	c.again("the addition of a member", func() (err error) {
		if added, list = c.findMember(at, m.peer); added != nil {
			return nil // the answer to an earlier attempt was lost
		}
		if learner {
			_, err = c.client(at).MemberAddAsLearner(c.within(), []string{m.peer})
		} else {
			_, err = c.client(at).MemberAdd(c.within(), []string{m.peer})
		}
		if err == nil {
			added, list = c.findMember(at, m.peer)
		}
		return err
	})
	if added == nil {
		c.Fatalf("%s was added and is not known: %v", m.name, list.Members)
	}
	c.know(m, added.ID)
	var initial []string
	for _, x := range list.Members {
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
		if is, _ := c.findMember(at, x.peer); is != nil && !is.IsLearner {
			return true
		}
		_, err := c.client(at).MemberPromote(c.within(), x.id)
		if err != nil && !passes(err) && !strings.Contains(err.Error(), "in sync with leader") {
			c.Fatalf("promoting %s: %v", x.name, err)
		}
		return err == nil
	})
}

// remove removes a member through another one, or through itself, and forgets it.
func (c *cluster) remove(at, x *member) {
	c.Helper()
	c.members = c.others(x)
	witness := at
	if at == x {
		witness = c.members[0] // it may be gone before it has answered
	}
	c.again("the removal of "+x.name, func() error {
		if is, _ := c.findMember(witness, x.peer); is == nil {
			return nil
		}
		_, err := c.client(at).MemberRemove(c.within(), x.id)
		return err
	})
}

// lead makes a member the leader.
func (c *cluster) lead(m *member) {
	c.Helper()
	c.eventually(m.name+" as the leader", func() bool {
		l := c.leader()
		if l == m {
			return true
		}
		_, err := c.client(l).MoveLeader(c.within(), m.id) // it may have lost it meanwhile
		return err == nil && c.leader() == m
	})
}

// follows waits until a member knows the same leader as all others.
func (c *cluster) follows(x *member) {
	c.Helper()
	c.eventually(x.name+" has the leader that all have", func() bool {
		is, err := c.status(x)
		return err == nil && is.Leader != 0 && !slices.ContainsFunc(c.members, func(m *member) bool {
			s, err := c.status(m)
			return err != nil || s.Leader != is.Leader
		})
	})
}
