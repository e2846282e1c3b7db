package apply

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

func TestAnswersOfSingleRequests(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.put("a", "1")
	steps := []struct {
		name string
		cmd  Command
		m    proto.Message
		want string // the body as a message
		body proto.Message
		rev  int64
		err  error
	}{
		{"a put", CommandPut, put("a", "2"), "", &etcdserverpb.PutResponse{}, 3, nil},
		{"a put that wants what was there", CommandPut, &etcdserverpb.PutRequest{Key: []byte("a"), PrevKv: true, IgnoreValue: true},
			`prev_kv:{key:"a" create_revision:2 mod_revision:3 version:2 value:"2"}`, &etcdserverpb.PutResponse{}, 4, nil},
		{"a put that keeps what is not there", CommandPut, keepValue("none"), "", nil, 4, ErrKeyNotFound},
		{"a put on no lease", CommandPut, leased(keepValue("none")), "", nil, 4, lease.ErrNotFound},
		{"a delete of nothing", CommandDeleteRange, del("none", ""), "", &etcdserverpb.DeleteRangeResponse{}, 4, nil},
		{"a delete", CommandDeleteRange, &etcdserverpb.DeleteRangeRequest{Key: []byte("a"), PrevKv: true},
			`deleted:1 prev_kvs:{key:"a" create_revision:2 mod_revision:4 version:3 value:"2"}`,
			&etcdserverpb.DeleteRangeResponse{}, 5, nil},
		{"a compaction", CommandCompaction, &etcdserverpb.CompactionRequest{Revision: 3}, "", &etcdserverpb.CompactionResponse{}, 5, nil},
		{"the same once more", CommandCompaction, &etcdserverpb.CompactionRequest{Revision: 3}, "", nil, 5, mvcc.ErrCompacted},
		{"one to the future", CommandCompaction, &etcdserverpb.CompactionRequest{Revision: 6}, "", nil, 5, mvcc.ErrFutureRevision},
		{"a range that was logged", CommandRange, get("a", 0), "", &etcdserverpb.RangeResponse{}, 5, nil},
	}
	for _, s := range steps {
		r := l.do(s.cmd, s.m)
		if !errors.Is(r.Err, s.err) || r.Revision != s.rev {
			t.Errorf("%s: revision %d, %v", s.name, r.Revision, r.Err)
		}
		if s.body == nil {
			continue
		}
		if err := proto.Unmarshal(r.Body, s.body); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		if got := strings.Join(strings.Fields(fmt.Sprint(s.body)), " "); got != s.want {
			t.Errorf("%s is answered with %s", s.name, got)
		}
	}
}

func TestEntriesThatStopTheMember(t *testing.T) {
	t.Parallel()
	raw := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	cases := map[string]struct {
		e    *raftpb.Entry
		want error
		says string
	}{
		"a lease grant that cannot be read": {entryAt(2, Encode(Header{}, CommandLeaseGrant, []byte{1})), ErrMalformed, "entry 2"},
		"a password without its hash": {
			entryAt(2, Encode(Header{}, CommandAuthUserAdd, raw(&etcdserverpb.AuthUserAddRequest{Name: "u", Password: "p"}))),
			ErrPlainPassword, "etcd before 3.5"},
		"a command that nobody knows": {
			entryAt(2, Encode(Header{}, 4711, nil)), ErrUnknownCommand, "field 4711"},
		"a put that cannot be read": {entryAt(2, Encode(Header{}, CommandPut, []byte{1})), ErrMalformed, "entry 2"},
		"a gap":                     {entryAt(3, nil), ErrGap, "entry 3 where 2 should follow"},
		"a cluster version above ours": {
			entryAt(2, Encode(Header{}, CommandClusterVersionSet, raw(&membershippb.ClusterVersionSetRequest{Ver: "3.8.0"}))),
			ErrClusterVersion, "3.8.0"},
		"a cluster version that is none": {
			entryAt(2, Encode(Header{}, CommandClusterVersionSet, raw(&membershippb.ClusterVersionSetRequest{Ver: "new"}))),
			ErrMalformed, "new"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.put("a", "1")
			err := l.m.Apply([]*raftpb.Entry{c.e}, func(uint64) bool { return true }, func(uint64, Result) {
				t.Error("it has a result")
			})
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
			if index, _ := l.store.Applied(); index != 1 {
				t.Errorf("applied is %d", index)
			}
		})
	}
}

func TestNobodyIsToldBeforeReadersSeeIt(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var entries []*raftpb.Entry
	for range 2*groupEntriesMax + 3 {
		entries = append(entries, l.entry(CommandPut, put("a", "1")))
	}
	told := 0
	l.check(l.m.Apply(entries, func(id uint64) bool { return id%2 == 0 }, func(id uint64, r Result) {
		told++
		if r.Revision > l.store.Revision() {
			t.Errorf("entry %d is told revision %d, readers see %d", id, r.Revision, l.store.Revision())
		}
		if id%2 != 0 || r.Index != id {
			t.Errorf("entry %d has a result of entry %d", id, r.Index)
		}
	}))
	if told != len(entries)/2 || l.store.Revision() != int64(1+len(entries)) {
		t.Errorf("%d results, revision %d", told, l.store.Revision())
	}
}

func confChange(t *testing.T, index uint64, kind raftpb.ConfChangeType, node uint64, x any) *raftpb.Entry {
	t.Helper()
	cc := &raftpb.ConfChange{Id: proto.Uint64(1000 + index), Type: kind.Enum(), NodeId: proto.Uint64(node)}
	if x != nil {
		var err error
		if cc.Context, err = json.Marshal(x); err != nil {
			t.Fatal(err)
		}
	}
	data, err := proto.Marshal(cc)
	if err != nil {
		t.Fatal(err)
	}
	return &raftpb.Entry{
		Type: raftpb.EntryConfChange.Enum(), Index: proto.Uint64(index), Term: proto.Uint64(3), Data: data,
	}
}

func TestConfigurationChanges(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	member := func(id cluster.ID, url string, learner bool) cluster.Member {
		return cluster.Member{ID: id, PeerURLs: []string{url}, IsLearner: learner}
	}
	const add, learn, remove, update = raftpb.ConfChangeAddNode, raftpb.ConfChangeAddLearnerNode,
		raftpb.ConfChangeRemoveNode, raftpb.ConfChangeUpdateNode
	steps := []struct {
		name string
		kind raftpb.ConfChangeType
		node uint64
		x    any
		want error
	}{
		{"the first member", add, 1, member(1, "http://a", false), nil},
		{"a learner", learn, 2, member(2, "http://b", true), nil},
		{"one learner too many", learn, 3, member(3, "http://e", true), cluster.ErrTooManyLearners},
		{"an id that is taken", add, 2, member(2, "http://c", false), cluster.ErrIDExists},
		{"a URL that is taken", add, 3, member(3, "http://a", false), cluster.ErrPeerURLExists},
		{"promoting a voter", add, 1, cluster.ConfChangeContext{Member: cluster.Member{ID: 1}, IsPromote: true}, cluster.ErrNotLearner},
		{"promoting the learner", add, 2, cluster.ConfChangeContext{Member: cluster.Member{ID: 2}, IsPromote: true}, nil},
		{"other URLs", update, 2, member(2, "http://b2", false), nil},
		{"removing nobody", remove, 9, nil, cluster.ErrIDNotFound},
		{"removing a member", remove, 2, nil, nil},
		{"removing the only voter", remove, 1, nil, cluster.ErrLastVoter},
		{"its id again", add, 2, member(2, "http://d", false), cluster.ErrIDRemoved},
	}
	for i, s := range steps {
		index := uint64(i + 1)
		e := confChange(t, index, s.kind, s.node, s.x)
		cc, err := l.m.CheckConfChange(e)
		l.check(err)
		if (cc.GetNodeId() == 0) != (s.want != nil) {
			t.Errorf("%s: raft is given member %d", s.name, cc.GetNodeId())
		}
		told := 0
		cs := &raftpb.ConfState{Voters: []uint64{1, index}}
		l.check(l.m.FinishConfChange(e, cc, cs, func(id uint64, r Result) {
			told++
			if !errors.Is(r.Err, s.want) || id != 1000+index || r.Index != index {
				t.Errorf("%s: id %d has result %+v", s.name, id, r)
			}
		}))
		stored, err := LoadConfState(l.db)
		l.check(err)
		if applied, _ := l.store.Applied(); applied != index || !proto.Equal(stored, cs) || told != 1 {
			t.Errorf("%s: applied %d, stored %v, told %d", s.name, applied, stored, told)
		}
		l.reopen(false)
	}
	if all := l.members.Members(); len(all) != 1 || all[0].ID != 1 || !l.members.IsRemoved(2) {
		t.Errorf("members are %+v", all)
	}
	next := uint64(len(steps) + 1)
	for name, c := range map[string]struct {
		e    *raftpb.Entry
		want error
	}{
		"a gap":                       {confChange(t, next+1, remove, 1, nil), ErrGap},
		"one that was applied":        {confChange(t, next-1, remove, 1, nil), ErrGap},
		"a context of another member": {confChange(t, next, add, 5, member(6, "http://x", false)), ErrMalformed},
		"no context":                  {confChange(t, next, add, 5, nil), ErrMalformed},
		"an unknown type":             {confChange(t, next, 9, 5, member(5, "http://x", false)), ErrUnknownCommand},
	} {
		if _, err := l.m.CheckConfChange(c.e); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestMembersPublishThemselves(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	e := confChange(t, 1, raftpb.ConfChangeAddNode, 1, cluster.Member{ID: 1, PeerURLs: []string{"http://a"}, Name: "first"})
	cc, err := l.m.CheckConfChange(e)
	l.check(err)
	l.check(l.m.FinishConfChange(e, cc, &raftpb.ConfState{Voters: []uint64{1}}, func(uint64, Result) {}))
	l.last = 1
	l.do(CommandClusterMemberAttrSet, &membershippb.ClusterMemberAttrSetRequest{
		Member_ID: 1, MemberAttributes: &membershippb.Attributes{Name: "one", ClientUrls: []string{"http://c"}},
	})
	l.do(CommandClusterMemberAttrSet, &membershippb.ClusterMemberAttrSetRequest{Member_ID: 8})
	l.do(CommandClusterVersionSet, &membershippb.ClusterVersionSetRequest{Ver: "3.7.0"})
	for range 2 {
		x, ok := l.members.Member(1)
		if !ok || x.Name != "one" || x.ClientURLs[0] != "http://c" || l.members.Version() != "3.7.0" || len(l.members.Members()) != 1 {
			t.Errorf("member %+v, version %s", x, l.members.Version())
		}
		l.reopen(false)
	}
}
