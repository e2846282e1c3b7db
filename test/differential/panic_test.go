package differential

import (
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
)

// What is left out because it ends a member of etcd does end it, and neither ends Ashlar without a word nor changes keys.
func TestWhatEndsEtcd(t *testing.T) {
	all := &etcdserverpb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte{0}}
	keep := &etcdserverpb.PutRequest{Key: []byte("a"), IgnoreValue: true}
	for name, c := range map[string]struct {
		command *etcdserverpb.InternalRaftRequest
		why     string
		stops   bool // Ashlar stops, too, with a message: going on would make members differ
	}{
		"a key deleted and kept": {&etcdserverpb.InternalRaftRequest{Txn: &etcdserverpb.TxnRequest{Success: []*etcdserverpb.RequestOp{
			{Request: &etcdserverpb.RequestOp_RequestDeleteRange{RequestDeleteRange: all}},
			{Request: &etcdserverpb.RequestOp_RequestPut{RequestPut: keep}},
		}}}, skipKeeps, false},
		"attributes of nobody": {&etcdserverpb.InternalRaftRequest{ClusterMemberAttrSet: &membershippb.ClusterMemberAttrSetRequest{
			Member_ID: 99, MemberAttributes: &membershippb.Attributes{Name: "x"},
		}}, skipNoMember, false},
		"a version that is none": {&etcdserverpb.InternalRaftRequest{
			ClusterVersionSet: &membershippb.ClusterVersionSetRequest{Ver: "bad"},
		}, skipVersion, true},
		"a version to come": {&etcdserverpb.InternalRaftRequest{
			ClusterVersionSet: &membershippb.ClusterVersionSetRequest{Ver: "3.8.0"},
		}, skipVersion, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, &tally{})
			t.Cleanup(p.a.close) // etcd is left as it is: it may hold its locks
			for _, s := range append(founding(), step{settle: true, command: &etcdserverpb.InternalRaftRequest{
				Put: &etcdserverpb.PutRequest{Key: []byte("a"), Value: []byte("1")},
			}}) {
				if err := p.do(s); err != nil {
					t.Fatal(err)
				}
			}
			s := step{command: c.command}
			if why := p.skipped(s); why != c.why {
				t.Fatalf("left out because of %q, want %q", why, c.why)
			}
			before := p.a.store.Revision()
			entry, err := p.entry(s)
			if err != nil {
				t.Fatal(err)
			}
			results, err := p.a.apply([]*raftpb.Entry{entry}, func(uint64) bool { return true })
			if (err != nil) != c.stops || p.a.store.Revision() != before {
				t.Errorf("Ashlar: %v, %v, at revision %d after %d", results, err, p.a.store.Revision(), before)
			}
			if _, err := p.e.apply(entry, p.index, true); err == nil {
				t.Errorf("etcd goes on")
			}
		})
	}
}

// The last voter's removal would end every member of etcd in raft; Ashlar refuses it.
func TestTheLastVoterStays(t *testing.T) {
	p := newPair(t, &tally{})
	defer p.close()
	if err := p.do(founding()[0]); err != nil {
		t.Fatal(err)
	}
	s := step{conf: &raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: proto.Uint64(memberSelf)}}
	if why := p.skipped(s); why != skipLastVoter {
		t.Fatalf("left out because of %q", why)
	}
	entry, err := p.entry(s)
	if err != nil {
		t.Fatal(err)
	}
	var r apply.Result
	if r, err = p.a.confChange(entry); err != nil || r.Err == nil {
		t.Errorf("%v, %v", r.Err, err)
	}
}
