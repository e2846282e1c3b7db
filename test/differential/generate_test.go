package differential

import (
	"bytes"
	"math"
	"math/rand/v2"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
)

// generator makes random steps over few keys, leases, users and members, so that they meet. It looks at etcd's state to
// make a good part of them succeed.
type generator struct {
	*rand.Rand
	e *etcd
	// weights of the kinds of steps
	profile profile
}

// profile says how often each kind of step comes.
type profile struct {
	name                                                      string
	kv, txn, compaction, leases, alarms, auth, members, reads int
}

var profiles = []profile{
	{"keys", 30, 40, 5, 10, 0, 0, 0, 15},
	{"everything", 20, 25, 5, 15, 4, 12, 4, 15},
	{"users", 30, 30, 1, 15, 0, 20, 0, 4},
	{"leases", 25, 25, 3, 40, 1, 0, 0, 6},
	{"members and alarms", 15, 10, 2, 8, 20, 5, 40, 0},
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// one is true once in n.
func (g *generator) one(n int) bool { return g.IntN(n) == 0 }

// number is one of those at which mistakes are made, or a small one.
func (g *generator) number() int64 {
	if g.one(6) {
		return pick(g.Rand, int64(-1), 0, math.MaxInt64, math.MinInt64, math.MaxInt64-1, 1<<32, math.MaxInt32)
	}
	return g.Int64N(8)
}

func (g *generator) key() []byte {
	if g.one(25) {
		return pick(g.Rand, []byte{0}, []byte{0xff}, []byte("a\x00"), []byte("\x00\xff\xff"), []byte("e/"), bytes.Repeat([]byte{'k'}, 300))
	}
	return []byte(pick(g.Rand, "a", "b", "c", "d", "e/1", "e/2", "e/3", "f"))
}

// anyKey is a key, or rarely none.
func (g *generator) anyKey() []byte {
	if g.one(40) {
		return nil
	}
	return g.key()
}

func (g *generator) end() []byte {
	if g.one(20) {
		return g.key()
	}
	return []byte(pick(g.Rand, "", "", "", "b", "c", "e/2", "e0", "z", "\x00", "\x00"))
}

func (g *generator) value() []byte {
	switch g.IntN(8) {
	case 0:
		return nil
	case 1:
		if g.one(2) {
			return bytes.Repeat([]byte{'v'}, g.IntN(700))
		}
		return g.large()
	}
	return []byte(pick(g.Rand, "m", "n", "o", "value"))
}

// large is a value about as long as the shortest that Ashlar keeps apart from their keys, or well above.
func (g *generator) large() []byte {
	return bytes.Repeat([]byte{byte('v' + g.IntN(3))}, pick(g.Rand, 4000, 4095, 4096, 4097, 6000, 20_000)+g.IntN(2)*g.IntN(60))
}

func (g *generator) lease() int64 {
	if all := g.e.lessor.Leases(); len(all) > 0 && !g.one(6) {
		least := int64(all[0].ID)
		for _, l := range all { // the order of all is that of a map
			least = min(least, int64(l.ID))
		}
		if g.one(2) {
			return least
		}
	}
	return pick(g.Rand, int64(7), 8, -9, 10, 11, math.MaxInt64, math.MinInt64)
}

// revision is one that may be compacted, present, or in the future.
func (g *generator) revision() int64 {
	if g.one(8) {
		return g.number()
	}
	first, now := max(0, g.e.kv.FirstRev()), g.e.kv.Rev()
	return first + g.Int64N(now-first+2) - int64(g.IntN(2))
}

func (g *generator) put() *etcdserverpb.PutRequest {
	p := &etcdserverpb.PutRequest{Key: g.key(), Value: g.value(), PrevKv: g.one(2)}
	switch g.IntN(10) {
	case 0:
		p.IgnoreValue, p.Value = true, nil
	case 1:
		p.IgnoreLease = true
	case 2:
		p.IgnoreLease, p.IgnoreValue, p.Value = true, true, nil
	case 3, 4, 5:
		p.Lease = g.lease()
	}
	if g.one(60) {
		p.Key = nil
	}
	if g.one(60) {
		p.IgnoreValue, p.IgnoreLease, p.Lease = true, g.one(2), g.lease() // refused before it is proposed
	}
	return p
}

func (g *generator) deletion() *etcdserverpb.DeleteRangeRequest {
	return &etcdserverpb.DeleteRangeRequest{Key: g.anyKey(), RangeEnd: g.end(), PrevKv: g.one(2)}
}

func (g *generator) ranges() *etcdserverpb.RangeRequest {
	r := &etcdserverpb.RangeRequest{
		Key: g.anyKey(), RangeEnd: g.end(), Serializable: g.one(2), KeysOnly: g.one(5), CountOnly: g.one(6),
		SortOrder:  pick(g.Rand, etcdserverpb.RangeRequest_NONE, etcdserverpb.RangeRequest_ASCEND, etcdserverpb.RangeRequest_DESCEND),
		SortTarget: etcdserverpb.RangeRequest_SortTarget(g.IntN(5)),
	}
	if g.one(2) {
		r.Limit = g.number()
	}
	if g.one(3) {
		r.Revision = g.revision()
	}
	for _, f := range []*int64{&r.MinModRevision, &r.MaxModRevision, &r.MinCreateRevision, &r.MaxCreateRevision} {
		if g.one(8) {
			*f = g.revision()
		}
	}
	if g.one(50) {
		r.SortTarget = 9
	}
	if g.one(50) {
		r.SortOrder = 7
	}
	return r
}

func (g *generator) compare() *etcdserverpb.Compare {
	c := &etcdserverpb.Compare{Key: g.anyKey(), Result: etcdserverpb.Compare_CompareResult(g.IntN(4)),
		Target: etcdserverpb.Compare_CompareTarget(g.IntN(5))}
	if g.one(3) {
		c.RangeEnd = g.end()
	}
	switch n := g.revision(); etcdserverpb.Compare_CompareTarget(c.Target) {
	case etcdserverpb.Compare_VERSION:
		c.TargetUnion = &etcdserverpb.Compare_Version{Version: g.number()}
	case etcdserverpb.Compare_CREATE:
		c.TargetUnion = &etcdserverpb.Compare_CreateRevision{CreateRevision: n}
	case etcdserverpb.Compare_MOD:
		c.TargetUnion = &etcdserverpb.Compare_ModRevision{ModRevision: n}
	case etcdserverpb.Compare_VALUE:
		c.TargetUnion = &etcdserverpb.Compare_Value{Value: g.value()}
	case etcdserverpb.Compare_LEASE:
		c.TargetUnion = &etcdserverpb.Compare_Lease{Lease: pick(g.Rand, int64(0), g.lease())}
	}
	switch g.IntN(25) { // what does not fit, and what no release knows
	case 0:
		c.TargetUnion = nil
	case 1:
		c.Target = etcdserverpb.Compare_CompareTarget(g.IntN(7))
	case 2:
		c.Result = 6
	}
	return c
}

func (g *generator) txn(deep int) *etcdserverpb.TxnRequest {
	t := &etcdserverpb.TxnRequest{}
	for range g.IntN(3) {
		t.Compare = append(t.Compare, g.compare())
	}
	t.Success, t.Failure = g.operations(deep), g.operations(deep)
	return t
}

// operations may name a key twice. Such a transaction is refused before it is proposed; in a log it must be decided alike.
func (g *generator) operations(deep int) (out []*etcdserverpb.RequestOp) {
	for range g.IntN(5) {
		switch x := g.IntN(12); {
		case x < 5:
			out = append(out, &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestPut{RequestPut: g.put()}})
		case x < 7:
			out = append(out, &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestDeleteRange{RequestDeleteRange: g.deletion()}})
		case x < 10 || deep == 0:
			out = append(out, &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestRange{RequestRange: g.ranges()}})
		case g.one(30):
			out = append(out, &etcdserverpb.RequestOp{})
		default:
			out = append(out, &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestTxn{RequestTxn: g.txn(deep - 1)}})
		}
	}
	return out
}

// readOnly is a transaction of ranges alone.
func (g *generator) readOnly() *etcdserverpb.TxnRequest {
	t := &etcdserverpb.TxnRequest{}
	for range g.IntN(3) {
		t.Compare = append(t.Compare, g.compare())
	}
	for _, branch := range []*[]*etcdserverpb.RequestOp{&t.Success, &t.Failure} {
		for range g.IntN(4) {
			*branch = append(*branch, &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestRange{RequestRange: g.ranges()}})
		}
	}
	return t
}

// step makes the next one.
func (g *generator) step() step {
	if g.one(80) {
		return step{start: pick(g.Rand, starts...)}
	}
	s := step{unwanted: g.one(10), settle: g.one(3)}
	p := g.profile
	c := &etcdserverpb.InternalRaftRequest{Header: g.header()}
	n := g.IntN(p.kv + p.txn + p.compaction + p.leases + p.alarms + p.auth + p.members + p.reads)
	under := func(weight int) bool {
		n -= weight
		return n < 0
	}
	switch {
	case under(p.kv):
		g.keyCommand(c)
	case under(p.txn):
		c.Txn = g.txn(2)
	case under(p.compaction):
		c.Compaction = &etcdserverpb.CompactionRequest{Revision: g.revision(), Physical: g.one(2)}
	case under(p.leases):
		g.leaseCommand(c)
	case under(p.alarms):
		c.Alarm = g.alarm()
	case under(p.auth):
		g.authCommand(c)
	case under(p.members):
		if g.one(2) {
			s.conf = g.confChange()
			return s
		}
		g.memberCommand(c)
	case g.one(2):
		s.read = g.ranges()
		return s
	default:
		s.readTxn = g.readOnly()
		return s
	}
	s.command = c
	if g.one(15) {
		return g.oddly(s)
	}
	return s
}

func (g *generator) keyCommand(c *etcdserverpb.InternalRaftRequest) {
	switch x := g.IntN(12); {
	case x < 7:
		c.Put = g.put()
	case x < 11:
		c.DeleteRange = g.deletion()
	default:
		c.Range = g.ranges()
	}
}

func (g *generator) leaseCommand(c *etcdserverpb.InternalRaftRequest) {
	switch g.IntN(7) {
	case 0, 1, 2:
		ttl := pick(g.Rand, int64(1), 2, 3, 60, 3600, g.number(), 9_000_000_000, 9_000_000_001)
		c.LeaseGrant = &etcdserverpb.LeaseGrantRequest{ID: pick(g.Rand, int64(7), 8, -9, 10, 11, math.MaxInt64, math.MinInt64), TTL: ttl}
		if g.one(20) {
			c.LeaseGrant.ID = 0
		}
	case 3, 4:
		c.LeaseRevoke = &etcdserverpb.LeaseRevokeRequest{ID: pick(g.Rand, g.lease(), g.lease(), 0)}
	default:
		c.LeaseCheckpoint = &etcdserverpb.LeaseCheckpointRequest{}
		for range g.IntN(4) {
			left := g.Int64N(70)
			if g.one(10) {
				left = pick(g.Rand, int64(1<<40), math.MaxInt64)
			}
			c.LeaseCheckpoint.Checkpoints = append(c.LeaseCheckpoint.Checkpoints,
				&etcdserverpb.LeaseCheckpoint{ID: g.lease(), Remaining_TTL: left})
		}
	}
}

// alarm is more often one that lowers when some are raised, since most else is refused until then.
func (g *generator) alarm() *etcdserverpb.AlarmRequest {
	raised := g.e.alarms.Get(etcdserverpb.AlarmType_NONE)
	if len(raised) > 0 && !g.one(3) {
		least := raised[0]
		for _, a := range raised {
			if a.Alarm < least.Alarm || a.Alarm == least.Alarm && a.MemberID < least.MemberID {
				least = a
			}
		}
		return &etcdserverpb.AlarmRequest{Action: etcdserverpb.AlarmRequest_DEACTIVATE, MemberID: least.MemberID, Alarm: least.Alarm}
	}
	a := &etcdserverpb.AlarmRequest{
		Action:   etcdserverpb.AlarmRequest_AlarmAction(g.IntN(3)),
		MemberID: pick(g.Rand, uint64(memberSelf), 1, 2, 0, math.MaxUint64), Alarm: etcdserverpb.AlarmType(g.IntN(3)),
	}
	if g.one(12) {
		a.Alarm = pick(g.Rand, etcdserverpb.AlarmType(7), -1)
	}
	if g.one(20) {
		a.Action = 5
	}
	return a
}

func (g *generator) memberCommand(c *etcdserverpb.InternalRaftRequest) {
	switch g.IntN(4) {
	case 0:
		c.ClusterVersionSet = &membershippb.ClusterVersionSetRequest{
			Ver: pick(g.Rand, "3.5.0", "3.6.0", "3.7.0", "3.7.0", "3.8.0", "bad", ""),
		}
	case 1:
		c.DowngradeInfoSet = &membershippb.DowngradeInfoSetRequest{Enabled: g.one(2), Ver: pick(g.Rand, "3.6.0", "3.5.0", "", "bad")}
	case 2:
		c.DowngradeVersionTest = &etcdserverpb.DowngradeVersionTestRequest{Ver: pick(g.Rand, "3.6.0", "")}
	default:
		c.ClusterMemberAttrSet = &membershippb.ClusterMemberAttrSetRequest{
			Member_ID: g.member(),
			MemberAttributes: &membershippb.Attributes{
				Name:       pick(g.Rand, "", "one", "two"),
				ClientUrls: pick(g.Rand, nil, []string{"http://c:1"}, []string{"http://c:2", "http://c:1"}),
			},
		}
	}
}
