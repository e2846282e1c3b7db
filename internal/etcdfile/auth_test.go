package etcdfile

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/auth"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// secured is a state with users, a role and authentication on.
func secured(t *testing.T) *state {
	t.Helper()
	s := newState(t)
	users, err := auth.Load(s.db)
	noError(t, err)
	for _, command := range []func(c *auth.Change) error{
		func(c *auth.Change) error { return c.AddUser(auth.User{Name: auth.Root, Hash: []byte("$2a$")}) },
		func(c *auth.Change) error { return c.GrantRole(auth.Root, auth.Root) },
		func(c *auth.Change) error { return c.AddUser(auth.User{Name: "n", NoPassword: true}) },
		func(c *auth.Change) error { return c.AddRole("r") },
		func(c *auth.Change) error {
			return c.GrantPermission("r", auth.Permission{Kind: auth.ReadWrite, Key: []byte("a"), End: []byte("b")})
		},
		func(c *auth.Change) error { return c.Enable() },
	} {
		changeUsers(t, s, users, command)
	}
	return s
}

// changeUsers applies an entry about users and roles.
func changeUsers(t *testing.T, s *state, users *auth.Table, command func(c *auth.Change) error) {
	t.Helper()
	var c *auth.Change
	s.entry(t, func(w *mvcc.Writer) error {
		c = users.Begin(w.Batch())
		return command(c)
	})
	c.Publish()
	c.Close()
}

func TestUsersAndRolesAreInTheFile(t *testing.T) {
	t.Parallel()
	s := secured(t)
	f := s.export(t, false)
	for bucket, want := range map[string]map[string]string{
		bucketAuth:      {authEnabled: "\x01", authRevision: "\x00\x00\x00\x00\x00\x00\x00\x06"},
		bucketAuthRoles: {"r": "\n\x01r\x12\b\b\x02\x12\x01a\x1a\x01b"},
		bucketAuthUsers: {"n": "\n\x01n\"\x02\b\x01", "root": "\n\x04root\x12\x04$2a$\x1a\x04root\"\x00"},
	} {
		got := make(map[string]string)
		noError(t, f.each(context.Background(), bucket, nil, func(key, value []byte) error {
			got[string(key)] = string(value)
			return nil
		}))
		if len(got) != len(want) {
			t.Errorf("%s has %q", bucket, got)
		}
		for key, value := range want {
			if got[key] != value {
				t.Errorf("%s: %s is %q, want %q", bucket, key, got[key], value)
			}
		}
	}
	m, err := f.Meta()
	noError(t, err)
	if !m.AuthEnabled || m.AuthRevision != 6 {
		t.Errorf("meta: %t, %d", m.AuthEnabled, m.AuthRevision)
	}
}

// TestUsersAndRolesComeBackFromTheFile reads what it wrote, as a restore and a member that etcd sends a snapshot to do; then
// both tables go on alike.
func TestUsersAndRolesComeBackFromTheFile(t *testing.T) {
	t.Parallel()
	for says, prepare := range map[string]func(t *testing.T, s *state){
		"authentication is on": func(*testing.T, *state) {},
		"and off again": func(t *testing.T, s *state) {
			users, err := auth.Load(s.db)
			noError(t, err)
			changeUsers(t, s, users, func(c *auth.Change) error { return c.Disable() })
		},
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			s := secured(t)
			prepare(t, s)
			r := rebuilt(t, s.export(t, false), 100, 3, &raftpb.ConfState{Voters: []uint64{7}})
			want, got := accounts(t, s), accounts(t, r)
			if want != got {
				t.Errorf("after the file: %s, want %s", got, want)
			}
			for _, x := range []*state{s, r} {
				users, err := auth.Load(x.db)
				noError(t, err)
				changeUsers(t, x, users, func(c *auth.Change) error { return c.GrantRole("n", "r") })
			}
			if want, got := accounts(t, s), accounts(t, r); want != got || !strings.Contains(got, `n true "" ["r"]`) {
				t.Errorf("after a change: %s, want %s", got, want)
			}
		})
	}
}

// accounts says which users and roles there are, and what n may do.
func accounts(t *testing.T, s *state) string {
	t.Helper()
	users, err := auth.Load(s.db)
	noError(t, err)
	enabled, revision := users.Status()
	out := fmt.Sprint(enabled, " ", revision)
	for _, name := range users.Users() {
		u, _ := users.User(name)
		out += fmt.Sprintf("; %s %t %q %q", name, u.NoPassword, u.Hash, u.Roles)
	}
	for _, name := range users.Roles() {
		r, _ := users.Role(name)
		out += fmt.Sprintf("; %s %q", name, r.Permissions)
	}
	j := users.Judge(auth.Subject{User: "n", Revision: revision})
	return out + fmt.Sprint("; ", j.Write([]byte("a"), nil), j.Write([]byte("b"), nil))
}
