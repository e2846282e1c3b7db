package apply

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

const (
	raise = etcdserverpb.AlarmRequest_ACTIVATE
	lower = etcdserverpb.AlarmRequest_DEACTIVATE
	show  = etcdserverpb.AlarmRequest_GET

	none    = etcdserverpb.AlarmType_NONE
	noSpace = etcdserverpb.AlarmType_NOSPACE
	corrupt = etcdserverpb.AlarmType_CORRUPT
)

func alarmRequest(do etcdserverpb.AlarmRequest_AlarmAction, t etcdserverpb.AlarmType, member uint64) *etcdserverpb.AlarmRequest {
	return &etcdserverpb.AlarmRequest{Action: do, Alarm: t, MemberID: member}
}

// alarm returns the alarms of the answer, as member:alarm.
func (l *lab) alarm(do etcdserverpb.AlarmRequest_AlarmAction, t etcdserverpb.AlarmType, member uint64) string {
	l.t.Helper()
	r := l.do(CommandAlarm, alarmRequest(do, t, member))
	l.check(r.Err)
	var a etcdserverpb.AlarmResponse
	l.check(proto.Unmarshal(r.Body, &a))
	var out []string
	for _, x := range a.GetAlarms() {
		out = append(out, fmt.Sprintf("%d:%s", x.GetMemberID(), x.GetAlarm()))
	}
	return strings.Join(out, " ")
}

func TestAlarmsAnswerAsInEtcd(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, step := range []struct {
		name   string
		do     etcdserverpb.AlarmRequest_AlarmAction
		alarm  etcdserverpb.AlarmType
		member uint64
		want   string
	}{
		{"none at first", show, none, 0, ""},
		{"raised", raise, noSpace, 7, "7:NOSPACE"},
		{"raised again", raise, noSpace, 7, "7:NOSPACE"},
		{"that of another", raise, noSpace, 5, "5:NOSPACE"},
		{"another one", raise, corrupt, 7, "7:CORRUPT"},
		{"none cannot be raised", raise, none, 7, ""},
		{"an unknown one can", raise, 9, 7, "7:9"},
		{"the list", show, none, 0, "5:NOSPACE 7:NOSPACE 7:CORRUPT 7:9"},
		{"the list asks for no member", show, noSpace, 5, "5:NOSPACE 7:NOSPACE"},
		{"lowered where it is not raised", lower, corrupt, 5, ""},
		{"lowered for no member", lower, noSpace, 0, ""},
		{"lowered", lower, noSpace, 7, "7:NOSPACE"},
		{"lowered again", lower, noSpace, 7, ""},
		{"none cannot be lowered", lower, none, 7, ""},
		{"an unknown action", 7, noSpace, 8, ""},
		{"the list at the end", show, none, 0, "5:NOSPACE 7:CORRUPT 7:9"},
	} {
		if got := l.alarm(step.do, step.alarm, step.member); got != step.want {
			t.Errorf("%s: got %q, want %q", step.name, got, step.want)
		}
	}
	l.reopen(false)
	if got := len(l.alarms.List()); got != 3 {
		t.Errorf("%d alarms after reopening", got)
	}
}

func TestWhatAlarmsRefuse(t *testing.T) {
	t.Parallel()
	branch := &etcdserverpb.TxnRequest{
		Compare: []*etcdserverpb.Compare{{
			Key: []byte("a"), Target: etcdserverpb.Compare_VERSION, TargetUnion: &etcdserverpb.Compare_Version{Version: 77},
		}},
		Success: []*etcdserverpb.RequestOp{request(then(put("a", "2")))},
		Failure: []*etcdserverpb.RequestOp{request(get("a", 0))},
	}
	for _, c := range []struct {
		name             string
		cmd              Command
		msg              proto.Message
		noSpace, corrupt error
	}{
		{"put", CommandPut, put("a", "2"), ErrNoSpace, ErrCorrupt},
		{"a put that would be refused anyway", CommandPut, &etcdserverpb.PutRequest{Key: []byte("x"), IgnoreValue: true}, ErrNoSpace, ErrCorrupt},
		{"delete", CommandDeleteRange, del("a", ""), nil, ErrCorrupt},
		{"a transaction that puts", CommandTxn, then(put("a", "2")), ErrNoSpace, ErrCorrupt},
		{"a put in a branch not taken, nested", CommandTxn, branch, ErrNoSpace, ErrCorrupt},
		{"a transaction that deletes", CommandTxn, then(del("a", "")), nil, ErrCorrupt},
		{"compaction", CommandCompaction, &etcdserverpb.CompactionRequest{Revision: 2}, nil, ErrCorrupt},
		{"a compaction to the future", CommandCompaction, &etcdserverpb.CompactionRequest{Revision: 99}, mvcc.ErrFutureRevision, ErrCorrupt},
		{"lease grant", CommandLeaseGrant, &etcdserverpb.LeaseGrantRequest{ID: 2, TTL: 100}, ErrNoSpace, ErrCorrupt},
		{"lease revoke", CommandLeaseRevoke, &etcdserverpb.LeaseRevokeRequest{ID: 1}, nil, ErrCorrupt},
		{"cluster version", CommandClusterVersionSet, &etcdserverpb.PutRequest{Key: []byte("3.7.0")}, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, a := range []struct {
				alarms []etcdserverpb.AlarmType
				want   error
			}{
				{nil, nil},
				{[]etcdserverpb.AlarmType{noSpace}, c.noSpace},
				{[]etcdserverpb.AlarmType{corrupt}, c.corrupt},
				{[]etcdserverpb.AlarmType{noSpace, corrupt}, c.corrupt},
			} {
				l := newLab(t)
				l.check(l.do(CommandLeaseGrant, &etcdserverpb.LeaseGrantRequest{ID: 1, TTL: 100}).Err)
				l.put("a", "1")
				for _, x := range a.alarms {
					l.alarm(raise, x, 99) // that of any member counts
				}
				before := l.store.Revision()
				r := l.do(c.cmd, c.msg)
				switch {
				case a.want == nil && a.alarms != nil && r.Err != nil,
					a.want != nil && !errors.Is(r.Err, a.want):
					t.Errorf("with %v: %v, want %v", a.alarms, r.Err, a.want)
				case r.Err != nil && (l.store.Revision() != before || r.Revision != before):
					t.Errorf("with %v: revision %d became %d", a.alarms, before, l.store.Revision())
				}
				for _, x := range a.alarms {
					l.alarm(lower, x, 99)
				}
				l.put("a", "3")
			}
		})
	}
}

// An alarm counts from its entry on, also for the entries that share its batch.
func TestAlarmWithinAGroup(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	entries := []struct {
		cmd Command
		msg proto.Message
	}{
		{CommandPut, put("a", "1")},
		{CommandAlarm, alarmRequest(raise, noSpace, 7)},
		{CommandPut, put("a", "2")},
		{CommandAlarm, alarmRequest(lower, noSpace, 7)},
		{CommandPut, put("a", "3")},
	}
	var results []string
	var group = make([]*raftpb.Entry, 0, len(entries))
	for _, e := range entries {
		group = append(group, l.entry(e.cmd, e.msg))
	}
	l.check(l.m.Apply(group, func(uint64) bool { return true }, func(_ uint64, r Result) {
		results = append(results, fmt.Sprint(r.Err))
	}))
	want := fmt.Sprint([]string{"<nil>", "<nil>", ErrNoSpace.Error(), "<nil>", "<nil>"})
	if got := fmt.Sprint(results); got != want || l.text() != "a=3 " || l.alarms.Active(cluster.AlarmNoSpace) {
		t.Errorf("got %s, %s, want %s", got, l.text(), want)
	}
}
