package ctl

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
)

var (
	header = &pb.ResponseHeader{ClusterId: 0xc1, MemberId: 0x3e, Revision: 7, RaftTerm: 2}
	odd    = &mvccpb.KeyValue{Key: []byte("a\t"), Value: []byte("\"\x01"), CreateRevision: 2, ModRevision: 5, Version: 4, Lease: 0x1f}
	bare   = &pb.ResponseHeader{ClusterId: 0xc1, MemberId: 0x3e, RaftTerm: 2}
)

// headerText are the fields of header.
const headerText = "\"ClusterID\" : 193\n\"MemberID\" : 62\n\"Revision\" : 7\n\"RaftTerm\" : 2\n"

func TestReplies(t *testing.T) {
	t.Parallel()
	get := getReply(&pb.RangeResponse{Header: header, Kvs: []*mvccpb.KeyValue{odd}, More: true, Count: 9}, false)
	txn := txnReply(&pb.TxnResponse{Header: header, Responses: []*pb.ResponseOp{
		{Response: &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: &pb.DeleteRangeResponse{Deleted: 1}}},
		{Response: &pb.ResponseOp_ResponseTxn{ResponseTxn: &pb.TxnResponse{Succeeded: true}}},
	}})
	member := &pb.Member{ID: 0xab, PeerURLs: []string{"http://p1", "http://p2"}, IsLearner: true}
	alarms := alarmReply(&pb.AlarmResponse{Alarms: []*pb.AlarmMember{{MemberID: 5, Alarm: pb.AlarmType_NOSPACE}}})
	role := roleReply(&pb.AuthRoleGetResponse{Header: header, Perm: []*authpb.Permission{
		{PermType: authpb.READ, Key: []byte("k")}, {PermType: authpb.READWRITE, Key: []byte("p"), RangeEnd: []byte("q")},
		{PermType: authpb.WRITE, Key: []byte("z"), RangeEnd: []byte{0}}}}, "r")
	cases := map[string]struct {
		r      reply
		format string
		hex    bool
		want   string
	}{
		"keys and values":        {get, "simple", false, "a\t\n\"\x01\n"},
		"keys and values in hex": {get, "simple", true, "\\x61\\x09\n\\x22\\x01\n"},
		"a range's fields": {get, "fields", false, headerText + "\"Key\" : \"a\\t\"\n\"CreateRevision\" : 2\n\"ModRevision\" : 5\n" +
			"\"Version\" : 4\n\"Value\" : \"\\\"\\x01\"\n\"Lease\" : 31\n\"More\" : true\n\"Count\" : 9\n"},
		"a range's JSON": {get, "json", false, `{"header":{"cluster_id":193,"member_id":62,"revision":7,"raft_term":2},` +
			`"kvs":[{"key":"YQk=","create_revision":2,"mod_revision":5,"version":4,"value":"IgE=","lease":31}],"more":true,"count":9}` + "\n"},
		"only values":          {getReply(&pb.RangeResponse{Kvs: []*mvccpb.KeyValue{odd}}, true), "simple", false, "\"\x01\n"},
		"a lease in hex":       {putReply(&pb.PutResponse{Header: bare, PrevKv: odd}), "fields", true, "\"ClusterID\" : 193\n\"MemberID\" : 62\n\"RaftTerm\" : 2\n\"PrevKey\" : \"a\\t\"\n\"PrevCreateRevision\" : 2\n\"PrevModRevision\" : 5\n\"PrevVersion\" : 4\n\"PrevValue\" : \"\\\"\\x01\"\n\"PrevLease\" : 000000000000001f\n"},
		"a transaction":        {txn, "simple", false, "FAILURE\n\n1\n\nSUCCESS\n"},
		"a transaction's JSON": {txn, "json", false, `{"header":{"cluster_id":193,"member_id":62,"revision":7,"raft_term":2},"responses":[{"Response":{"response_delete_range":{"deleted":1}}},{"Response":{"response_txn":{"succeeded":true}}}]}` + "\n"},
		"an alarm":             {alarms, "simple", false, "memberID:5  alarm:NOSPACE\n"},
		"an alarm's fields":    {alarms, "fields", false, "\"ClusterID\" : 0\n\"MemberID\" : 0\n\"RaftTerm\" : 0\n\"MemberID\" : 5\n\"AlarmType\" : NOSPACE\n\n"},
		"a role":               {role, "simple", false, "Role r\nKV Read:\n\tk\n\t[p, q) (prefix p)\nKV Write:\n\t[p, q) (prefix p)\n\t[z, <open ended>\n"},
		"a member that has not started": {memberListReply(&pb.MemberListResponse{Header: bare, Members: []*pb.Member{member}}, false),
			"simple", false, "ab, unstarted, , http://p1,http://p2, , true\n"},
		"members in hex": {memberListReply(&pb.MemberListResponse{Header: bare, Members: []*pb.Member{member}}, true), "json", true,
			`{"header":{"cluster_id":"c1","member_id":"3e","raft_term":2},"members":[{"ID":"ab","peerURLs":["http://p1","http://p2"],"isLearner":true}]}` + "\n"},
		"a new learner": {memberAddReply(&pb.MemberAddResponse{Header: bare, Member: member,
			Members: []*pb.Member{{ID: 1, Name: "one", PeerURLs: []string{"http://o"}}, member}}, "new"), "simple", false,
			"Member               ab added as learner to cluster c1\n\nETCD_NAME=\"new\"\n" +
				"ETCD_INITIAL_CLUSTER=\"one=http://o,new=http://p1,new=http://p2\"\n" +
				"ETCD_INITIAL_ADVERTISE_PEER_URLS=\"http://p1,http://p2\"\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n"},
		"an expired lease": {timeToLiveReply(&clientv3.LeaseTimeToLiveResponse{ID: 16, TTL: -1}, true), "simple", false,
			"lease 0000000000000010 already expired\n"},
		"endpoints that all failed": {statusReply(nil), "json", false, "null\n"},
		"hashes": {hashReply([]endpointHash{{"e1", &pb.HashKVResponse{Hash: 12, HashRevision: 3}}, {"longer", &pb.HashKVResponse{}}}), "table", false,
			"┌──────────┬──────┬───────────────┐\n│ ENDPOINT │ HASH │ HASH REVISION │\n├──────────┼──────┼───────────────┤\n" +
				"│       e1 │   12 │             3 │\n│   longer │    0 │             0 │\n└──────────┴──────┴───────────────┘\n"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if err := printers[c.format].print(&page{Writer: &out, hex: c.hex}, c.r); err != nil {
				t.Fatal(err)
			}
			if out.String() != c.want {
				t.Errorf("got\n%s\nwant\n%s", out.String(), c.want)
			}
		})
	}
}

func TestProtobufIsTheMessageAndNothingElse(t *testing.T) {
	t.Parallel()
	m := &pb.PutResponse{Header: header, PrevKv: odd}
	var out bytes.Buffer
	if err := printers["protobuf"].print(&page{Writer: &out}, putReply(m)); err != nil {
		t.Fatal(err)
	}
	var got pb.PutResponse
	if err := proto.Unmarshal(out.Bytes(), &got); err != nil || !proto.Equal(&got, m) {
		t.Errorf("got %v, %v", &got, err)
	}
}

func TestAFormThatAReplyLacksIsAFailure(t *testing.T) {
	t.Parallel()
	for format, p := range printers {
		err := p.print(&page{Writer: &bytes.Buffer{}}, reply{})
		var f *failure
		if !errors.As(err, &f) || f.status != statusFeature || !strings.HasPrefix(err.Error(), format+" not supported") {
			t.Errorf("%s: got %v", format, err)
		}
	}
}

// full refuses every write, as a pipe does whose reader is gone.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space") }

func TestAnErrorOfTheOutputIsReported(t *testing.T) {
	t.Parallel()
	r := getReply(&pb.RangeResponse{Kvs: []*mvccpb.KeyValue{odd}}, false)
	for _, format := range []string{"simple", "fields", "json", "protobuf"} {
		if err := printers[format].print(&page{Writer: full{}}, r); err == nil {
			t.Errorf("%s: no error", format)
		}
	}
}
