package etcdfile

import (
	"context"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/auth"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

func TestUsersAndRolesAreInTheFile(t *testing.T) {
	t.Parallel()
	s := newState(t)
	users, err := auth.Load(s.db)
	noError(t, err)
	change := func(command func(c *auth.Change) error) {
		t.Helper()
		var c *auth.Change
		s.entry(t, func(w *mvcc.Writer) error {
			c = users.Begin(w.Batch())
			return command(c)
		})
		c.Publish()
		c.Close()
	}
	change(func(c *auth.Change) error { return c.AddUser(auth.User{Name: auth.Root, Hash: []byte("$2a$")}) })
	change(func(c *auth.Change) error { return c.GrantRole(auth.Root, auth.Root) })
	change(func(c *auth.Change) error { return c.AddUser(auth.User{Name: "n", NoPassword: true}) })
	change(func(c *auth.Change) error { return c.AddRole("r") })
	change(func(c *auth.Change) error {
		return c.GrantPermission("r", auth.Permission{Kind: auth.ReadWrite, Key: []byte("a"), End: []byte("b")})
	})
	change(func(c *auth.Change) error { return c.Enable() })

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
