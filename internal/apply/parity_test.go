package apply

import (
	"encoding/json"
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/auth"
	"github.com/ashlar-kv/ashlar/internal/cluster"
)

// The tests of this file are short forms of what test/differential found: decisions of etcd's that members of both kinds
// must share, and that nobody would guess.

// withRoot switches authentication on, with a user root.
func withRoot(t *testing.T) *lab {
	l := newLab(t)
	l.check(l.do(CommandAuthUserAdd, &etcdserverpb.AuthUserAddRequest{Name: "root", Options: &authpb.UserAddOptions{}, HashedPassword: "aGFzaA=="}).Err)
	l.check(l.do(CommandAuthUserGrantRole, &etcdserverpb.AuthUserGrantRoleRequest{User: "root", Role: "root"}).Err)
	l.check(l.do(CommandAuthEnable, &etcdserverpb.AuthEnableRequest{}).Err)
	return l
}

func TestATokenCarriesTheIndexBeforeItsEntry(t *testing.T) {
	t.Parallel()
	l := withRoot(t)
	r := l.do(CommandAuthenticate, &etcdserverpb.InternalAuthenticateRequest{Name: "root", SimpleToken: "text"})
	l.check(r.Err)
	var answer etcdserverpb.AuthenticateResponse
	l.check(proto.Unmarshal(r.Body, &answer))
	if l.last != 4 || answer.Token != "text.3" {
		t.Errorf("entry %d gives the token %q, want text.3", l.last, answer.Token)
	}
}

func TestWhatNeedsRootIsRefusedByNameToAUserThatIsGone(t *testing.T) {
	t.Parallel()
	l := withRoot(t)
	for user, want := range map[string]error{"": auth.ErrUserEmpty, "gone": auth.ErrUserNotFound} {
		if r := l.as(user, CommandAuthRoleAdd, &etcdserverpb.AuthRoleAddRequest{Name: "r"}); !errors.Is(r.Err, want) {
			t.Errorf("as %q: %v, want %v", user, r.Err, want)
		}
	}
	if r := l.as("gone", CommandPut, put("a", "1")); !errors.Is(r.Err, auth.ErrPermissionDenied) {
		t.Errorf("a put: %v, want %v", r.Err, auth.ErrPermissionDenied)
	}
}

func TestLearnersAreBoundedForEntriesOfThatTypeAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind    raftpb.ConfChangeType
		learner bool
		want    error
	}{
		"the type and the context name a learner": {raftpb.ConfChangeAddLearnerNode, true, cluster.ErrTooManyLearners},
		"the type alone names a learner":          {raftpb.ConfChangeAddLearnerNode, false, nil},
		"the context alone names a learner":       {raftpb.ConfChangeAddNode, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.check(l.confChange(raftpb.ConfChangeAddLearnerNode, cluster.Member{ID: 1, IsLearner: true}))
			if err := l.confChange(c.kind, cluster.Member{ID: 2, IsLearner: c.learner}); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// confChange applies the addition of a member and returns why it was refused.
func (l *lab) confChange(kind raftpb.ConfChangeType, x cluster.Member) error {
	l.t.Helper()
	context, err := json.Marshal(cluster.ConfChangeContext{Member: x})
	l.check(err)
	data, err := proto.Marshal(&raftpb.ConfChange{Type: kind.Enum(), NodeId: proto.Uint64(uint64(x.ID)), Context: context})
	l.check(err)
	l.last++
	e := entryAt(l.last, data)
	e.Type = raftpb.EntryConfChange.Enum()
	cc, err := l.m.CheckConfChange(e)
	l.check(err)
	var out Result
	l.check(l.m.FinishConfChange(e, cc, &raftpb.ConfState{}, func(_ uint64, r Result) { out = r }))
	return out.Err
}
