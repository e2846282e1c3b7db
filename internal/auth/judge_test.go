package auth

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

func TestWhoMayDoWhat(t *testing.T) {
	t.Parallel()
	l := enabled(t)
	l.must(addRole("r"), permit("r", Read, "r/", "r0"), permit("r", Write, "w/", "w0"), permit("r", ReadWrite, "one", ""),
		permit("r", Read, "b", "c"), permit("r", Read, "c", "d"), permit("r", ReadWrite, "x", "\x00"), permit("r", 9, "n", "o"),
		addUser("u"), grantRole("u", "r"), addUser("idle"), addUser("admin"), grantRole("admin", Root))
	u, old, root := l.judge("u"), l.table.Judge(Subject{"u", 1}), l.judge("admin")
	for _, c := range []struct {
		says     string
		j        *Judge
		write    bool
		key, end string
		want     error
	}{
		{"a key in a range that may be read", u, false, "r/1", "", nil},
		{"to write it", u, true, "r/1", "", ErrPermissionDenied},
		{"a range within it", u, false, "r/", "r/2", nil},
		{"the whole range", u, false, "r/", "r0", nil},
		{"one that ends behind it", u, false, "r/", "r1", ErrPermissionDenied},
		{"one that begins before it", u, false, "r", "r/2", ErrPermissionDenied},
		{"all from its first key on", u, false, "r/", "\x00", ErrPermissionDenied},
		{"two ranges side by side", u, false, "b", "d", nil},
		{"and one key more", u, false, "b", "d\x00", ErrPermissionDenied},
		{"the one key", u, true, "one", "", nil},
		{"the one key, as a range", u, true, "one", "one\x00", nil},
		{"the one key and the next", u, true, "one", "one\x01", ErrPermissionDenied},
		{"the end of a range", u, false, "r0", "", ErrPermissionDenied},
		{"all from a key on, which may be written", u, true, "x", "\x00", nil},
		{"all from one behind it on", u, true, "xyz", "\x00", nil},
		{"a kind of permission that nobody knows", u, false, "n", "", ErrPermissionDenied},
		{"a range that is empty, in a permitted one", u, false, "bb", "bb", nil},
		{"a range that is empty, in none", u, false, "f", "f", ErrPermissionDenied},
		{"an old auth revision", &old, false, "r/1", "", ErrOldRevision},
		{"a user without roles", l.judge("idle"), false, "r/1", "", ErrPermissionDenied},
		{"a user that is not there", l.judge("nobody"), false, "r/1", "", ErrPermissionDenied},
		{"nobody", &Judge{enabled: true, revision: 9}, false, "r/1", "", ErrUserEmpty},
		{"root, anywhere", root, true, "\x00", "\x00", nil},
		{"anyone, without authentication", &Judge{}, true, "\x00", "\x00", nil},
	} {
		ask := c.j.Read
		if c.write {
			ask = c.j.Write
		}
		if got := ask([]byte(c.key), []byte(c.end)); !errors.Is(got, c.want) {
			t.Errorf("%s: %v, want %v", c.says, got, c.want)
		}
	}
}

// TestAPermissionWithoutAKeyPermitsNothing: only a state that was not written by etcd or by us has one.
func TestAPermissionWithoutAKeyPermitsNothing(t *testing.T) {
	t.Parallel()
	role := &Role{Permissions: []Permission{{Kind: ReadWrite, End: []byte("z")}, {Kind: Read, Key: []byte("k")}}}
	m := mergeRoles([]string{"gone", "r"}, func(name string) *Role { return map[string]*Role{"r": role}[name] })
	for key, want := range map[string]bool{"a": false, "k": true} {
		if read, write := m.read.allows([]byte(key), nil), m.write.allows([]byte(key), nil); read != want || write {
			t.Errorf("%s may be read: %t, written: %t", key, read, write)
		}
	}
}

func TestWhatIsForRoot(t *testing.T) {
	t.Parallel()
	l := enabled(t)
	l.must(addUser("u"), addRole("r"), grantRole("u", "r"), addUser("admin"), grantRole("admin", Root))
	nobody := l.table.Judge(Subject{})
	for _, c := range []struct {
		who                                      string
		j                                        *Judge
		known, admin, userU, userV, roleR, roleS error
	}{
		{"a user", l.judge("u"), nil, ErrPermissionDenied, nil, ErrPermissionDenied, nil, ErrPermissionDenied},
		{"nobody", &nobody, ErrUserEmpty, ErrUserEmpty, ErrUserEmpty, ErrUserEmpty, ErrUserEmpty, ErrUserEmpty},
		{"who is not there", l.judge("x"), nil, ErrUserNotFound, ErrUserNotFound, ErrUserNotFound, ErrUserNotFound, ErrUserNotFound},
		{"root", l.judge(Root), nil, nil, nil, nil, nil, nil},
		{"one with the role root", l.judge("admin"), nil, nil, nil, nil, nil, nil},
	} {
		got := fmt.Sprint(c.j.Authenticated(), c.j.Admin(), c.j.MayAskForUser("u"), c.j.MayAskForUser("v"), c.j.MayAskForRole("r"), c.j.MayAskForRole("s"))
		if want := fmt.Sprint(c.known, c.admin, c.userU, c.userV, c.roleR, c.roleS); got != want {
			t.Errorf("%s: got %s, want %s", c.who, got, want)
		}
	}
	// As in etcd, nobody may ask for the user without a name.
	if err := nobody.MayAskForUser(""); err != nil {
		t.Error(err)
	}
}

// key draws one that often is another's neighbour.
func key(t *rapid.T, label string) []byte {
	return rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 'a', 'b', 0xff}), 1, 3).Draw(t, label)
}

func end(t *rapid.T, label string) []byte {
	switch rapid.IntRange(0, 4).Draw(t, label+" kind") {
	case 0:
		return nil
	case 1:
		return []byte{0}
	}
	return key(t, label)
}

// in tells whether a key is in what a permission or a request names.
func in(x, key, end []byte) bool {
	switch {
	case len(end) == 0:
		return bytes.Equal(x, key)
	case len(end) == 1 && end[0] == 0:
		return bytes.Compare(x, key) >= 0
	}
	return bytes.Compare(x, key) >= 0 && bytes.Compare(x, end) < 0
}

// slowly decides by looking at every key at which anything begins or ends: between two of those all keys are alike.
func slowly(permissions []Permission, key, end []byte, write bool) bool {
	edges := [][]byte{key, append(bytes.Clone(key), 0), end}
	for _, p := range permissions {
		edges = append(edges, p.Key, append(bytes.Clone(p.Key), 0), p.End)
	}
	touched := 0
	for _, x := range edges {
		// An end of the byte 0 names no key; as a key it only is one more to look at.
		if !in(x, key, end) {
			continue
		}
		touched++
		permitted := false
		for _, p := range permissions {
			kind := p.Kind == ReadWrite || p.Kind == Read && !write || p.Kind == Write && write
			permitted = permitted || kind && in(x, p.Key, p.End)
		}
		if !permitted {
			return false
		}
	}
	if touched == 0 { // an empty range is where its key is
		return slowly(permissions, key, nil, write)
	}
	return true
}

func TestDecisionsAreThoseOfASlowModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		l := enabled(t)
		var all []Permission
		l.must(addUser("u"))
		for i := range rapid.IntRange(1, 3).Draw(rt, "roles") {
			role := fmt.Sprint("r", i)
			l.must(addRole(role), grantRole("u", role))
			for range rapid.IntRange(0, 6).Draw(rt, "permissions") {
				p := Permission{Kind: Kind(rapid.IntRange(0, 3).Draw(rt, "kind")), Key: key(rt, "from"), End: end(rt, "to")}
				err := l.do(func(c *Change) error { return c.GrantPermission(role, p) })
				valid := len(p.End) == 0 || len(p.End) == 1 && p.End[0] == 0 || bytes.Compare(p.Key, p.End) < 0
				if (err == nil) != valid {
					rt.Fatalf("%q %q: %v", p.Key, p.End, err)
				}
			}
			r, _ := l.table.Role(role)
			all = append(all, r.Permissions...)
		}
		j := l.judge("u")
		for range 20 {
			k, e, write := key(rt, "key"), end(rt, "end"), rapid.Bool().Draw(rt, "write")
			if len(e) > 0 && !bytes.Equal(e, []byte{0}) && bytes.Compare(e, k) < 0 {
				continue // what runs backwards is etcd's very own: see backwards.go
			}
			ask := j.Read
			if write {
				ask = j.Write
			}
			got, want := ask(k, e) == nil, slowly(all, k, e, write)
			if len(e) > 0 && !bytes.Equal(e, []byte{0}) && bytes.Compare(e, k) < 0 {
				want = want && got // TestRangesThatEndBeforeTheyBegin: etcd may refuse them all the same
			}
			if got != want {
				rt.Fatalf("%q to %q, write %t: %t, the model says %t; permissions %v", k, e, write, got, want, all)
			}
		}
	})
}

// TestAJudgeOfAGroupDecidesAsOneAfterIt changes roles and users at random, and compares.
func TestAJudgeOfAGroupDecidesAsOneAfterIt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		l := enabled(t)
		users, roles := []string{"u", "v"}, []string{"r", "s", Root}
		for range rapid.IntRange(1, 6).Draw(rt, "groups") {
			var j Judge
			var s Subject
			l.group(func(c *Change) {
				for range rapid.IntRange(1, 5).Draw(rt, "commands") {
					user, role := rapid.SampledFrom(users).Draw(rt, "user"), rapid.SampledFrom(roles).Draw(rt, "role")
					command := rapid.SampledFrom([]func(*Change) error{
						addUser(user), deleteUser(user), addRole(role), deleteRole(role), grantRole(user, role), revokeRole(user, role),
						permit(role, ReadWrite, "a", "b"), forbid(role, "a", "b"), permit(role, Read, "b", "c"),
					}).Draw(rt, "command")
					if err := command(c); err != nil && !IsRefusal(err) {
						rt.Fatal(err)
					}
				}
				s = Subject{rapid.SampledFrom(users).Draw(rt, "subject"), c.standing.revision}
				j = c.Judge(s)
			})
			after := l.table.Judge(s)
			for _, k := range []string{"a", "b", "c"} {
				for _, ask := range [][2]func(_, _ []byte) error{{j.Read, after.Read}, {j.Write, after.Write}} {
					if got, want := ask[0]([]byte(k), nil), ask[1]([]byte(k), nil); got != want {
						rt.Fatalf("%s: %v in the group, %v after it", k, got, want)
					}
				}
			}
			if got, want := j.Admin(), after.Admin(); got != want {
				rt.Fatalf("admin: %v in the group, %v after it", got, want)
			}
		}
	})
}

func BenchmarkJudge(b *testing.B) {
	l := enabled(b)
	l.must(addUser("u"))
	l.group(func(c *Change) {
		for i := range 1000 {
			role := fmt.Sprintf("role-%04d", i)
			for _, command := range []func(*Change) error{addRole(role), permit(role, ReadWrite, role+"/", role+"0"), grantRole("u", role)} {
				l.check(command(c))
			}
		}
	})
	s, k := Subject{"u", l.table.Revision()}, []byte("role-0777/x")
	b.ReportAllocs()
	for b.Loop() {
		j := l.table.Judge(s)
		if err := j.Write(k, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// TestRootAndWhoeverAsksWhileAuthenticationIsOffMayAll, without an end of what they may.
func TestRootAndWhoeverAsksWhileAuthenticationIsOffMayAll(t *testing.T) {
	t.Parallel()
	off := newLab(t)
	on := enabled(t)
	on.must(addUser("u"), addRole("r"), permit("r", ReadWrite, "a", "c"), grantRole("u", "r"))
	for name, c := range map[string]struct {
		judge         *Judge
		authenticated error
		admin         error
		until         string
	}{
		"nobody, off":   {off.judge(""), nil, nil, ""},
		"somebody, off": {off.judge("u"), nil, nil, ""},
		"root":          {on.judge(Root), nil, nil, ""},
		"a user":        {on.judge("u"), nil, ErrPermissionDenied, "c"},
	} {
		j := c.judge
		if err := j.Authenticated(); !errors.Is(err, c.authenticated) {
			t.Errorf("%s: authenticated: %v", name, err)
		}
		if err := j.Admin(); !errors.Is(err, c.admin) {
			t.Errorf("%s: admin: %v", name, err)
		}
		if err := errors.Join(j.Read([]byte("b"), nil), j.Write([]byte("b"), nil)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if read, write := j.ReadableUntil([]byte("b")), j.WritableUntil([]byte("b")); string(read) != c.until || string(write) != c.until {
			t.Errorf("%s: may read until %q and write until %q, want %q", name, read, write, c.until)
		}
	}
	if err := on.judge("").Authenticated(); !errors.Is(err, ErrUserEmpty) {
		t.Errorf("nobody, on: %v", err)
	}
}
