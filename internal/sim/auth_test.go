package sim

import (
	"context"
	"encoding/base64"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/crypto/bcrypt"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
)

// must has the leader make a change, and returns the answer.
func (w *World) must(cmd apply.Command, m proto.Message) apply.Result {
	w.t.Helper()
	r := w.decided(w.begin(cmd, m))
	if r.Err != nil {
		w.t.Fatal(r.Err)
	}
	return r
}

// login gives root a token.
func (w *World) login() string {
	w.t.Helper()
	r := w.must(apply.CommandAuthenticate, &etcdserverpb.InternalAuthenticateRequest{Name: "root", SimpleToken: "sixteen-letters-or-more"})
	var out etcdserverpb.AuthenticateResponse
	if err := proto.Unmarshal(r.Body, &out); err != nil {
		w.t.Fatal(err)
	}
	return out.GetToken()
}

// TestAStateFromASnapshotKnowsTheTokensThatFollow: a member that was brought up by a snapshot takes part in logins, and in their end,
// as one that was never behind.
func TestAStateFromASnapshotKnowsTheTokensThatFollow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 3)
	h := w.leaveBehind()
	w.Settle()
	if h.m.Log().Mark().Generation == 1 {
		t.Fatal("the follower has caught up without a snapshot")
	}
	hash, err := bcrypt.GenerateFromPassword([]byte("p"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	password := base64.StdEncoding.EncodeToString(hash)
	w.must(apply.CommandAuthUserAdd, &etcdserverpb.AuthUserAddRequest{Name: "root", HashedPassword: password})
	w.must(apply.CommandAuthRoleAdd, &etcdserverpb.AuthRoleAddRequest{Name: "root"})
	w.must(apply.CommandAuthUserGrantRole, &etcdserverpb.AuthUserGrantRoleRequest{User: "root", Role: "root"})
	w.must(apply.CommandAuthEnable, &etcdserverpb.AuthEnableRequest{})
	token := w.login()
	w.Settle()
	for _, o := range w.hosts {
		if s, err := o.m.Identify(context.Background(), token); err != nil || s.User != "root" {
			t.Errorf("member %d takes the token for that of %q: %v", o.n, s.User, err)
		}
	}
}
