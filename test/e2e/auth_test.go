package e2e

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/test/process"
)

// login connects as a user.
func (m *member) login(user, password string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: []string{m.client}, DialTimeout: process.Patience, TLS: m.tls, Username: user, Password: password,
	})
}

// as is login for who must get in.
func (m *member) as(tb testing.TB, user, password string) *clientv3.Client {
	tb.Helper()
	c, err := m.login(user, password)
	noError(tb, err)
	tb.Cleanup(func() { c.Close() })
	return c
}

// secure adds root, and u who may read and write below u/, and switches authentication on.
func secure(ctx context.Context, tb testing.TB, c *clientv3.Client) {
	tb.Helper()
	for _, user := range []string{"root", "u"} {
		_, err := c.UserAdd(ctx, user, user+"pw")
		noError(tb, err)
		_, err = c.RoleAdd(ctx, user)
		noError(tb, err)
		_, err = c.UserGrantRole(ctx, user, user)
		noError(tb, err)
	}
	_, err := c.RoleGrantPermission(ctx, "u", "u/", clientv3.GetPrefixRangeEnd("u/"), clientv3.PermissionType(clientv3.PermReadWrite))
	noError(tb, err)
	_, err = c.AuthEnable(ctx)
	noError(tb, err)
}

// checkSecured is what holds of a server that secure was called for.
func checkSecured(ctx context.Context, t *testing.T, m *member) {
	t.Helper()
	u := m.as(t, "u", "upw")
	_, err := u.Put(ctx, "u/k", "v")
	noError(t, err)
	if _, err := u.Put(ctx, "k", "v"); err == nil || err.Error() != rpctypes.ErrPermissionDenied.Error() {
		t.Errorf("a put elsewhere: %v", err)
	}
	if _, err := u.Get(ctx, "u/", clientv3.WithPrefix()); err != nil {
		t.Errorf("a range: %v", err)
	}
	if _, err := m.connect(t).Get(ctx, "u/k"); err == nil || err.Error() != rpctypes.ErrUserEmpty.Error() {
		t.Errorf("without a user: %v", err)
	}
	if _, err := m.login("u", "wrong"); err == nil {
		t.Error("a wrong password gets in")
	}
	got, err := m.as(t, "root", "rootpw").UserGet(ctx, "u")
	noError(t, err)
	if !slices.Equal(got.Roles, []string{"u"}) {
		t.Errorf("the roles of u: %q", got.Roles)
	}
}

// TestUsersOutlastEverything: a crash, and the way into another store by a snapshot, also into one of etcd.
func TestUsersOutlastEverything(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	s := m.start(t)
	ctx := within(t, wholeTest)
	secure(ctx, t, m.connect(t))
	old := m.as(t, "u", "upw")
	_, err := old.Put(ctx, "u/old", "v")
	noError(t, err)
	checkSecured(ctx, t, m)
	s.Kill()
	s = m.start(t)
	checkSecured(ctx, t, m)
	// Its token is gone with the process; it logs in again by itself.
	_, err = old.Put(ctx, "u/old", "v")
	noError(t, err)

	path := saveSnapshot(ctx, t, m.as(t, "root", "rootpw"))
	if *etcdFlag == "" {
		t.Log("an etcd that serves the snapshot is not tried without -etcd")
	} else {
		theirs := newMember(t)
		theirs.binary = *etcdFlag
		restore(t, path, theirs.dataDir)
		other := theirs.start(t)
		defer other.Kill()
		checkSecured(ctx, t, theirs)
	}
	s.stop(t)
}

func TestSignedTokensOutlastARestart(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	noError(t, os.WriteFile(secret, []byte("0123456789abcdef0123456789abcdef"), 0o600))
	m := newMember(t, "--auth-token", "jwt,sign-method=HS256,priv-key="+secret, "--bcrypt-cost", "4")
	s := m.start(t)
	ctx := within(t, process.Patience)
	secure(ctx, t, m.connect(t))
	checkSecured(ctx, t, m)
	s.Kill()
	s = m.start(t)
	checkSecured(ctx, t, m)
	s.stop(t)
}
