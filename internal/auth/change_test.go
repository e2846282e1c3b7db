package auth

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

func TestRefusalsAreEtcdsAndChangeNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.want(ErrRootUserMissing, enable)
	l.must(disable) // off already
	l.want(ErrUserEmpty, addUser(""))
	l.must(addUser("u"))
	l.want(ErrUserExists, addUser("u"))
	l.want(ErrUserNotFound, deleteUser("v"))
	l.want(ErrUserNotFound, grantRole("v", Root))
	l.want(ErrRoleNotFound, grantRole("u", "r"))
	l.want(ErrRoleNotGranted, revokeRole("u", "r"))
	l.want(ErrUserNotFound, revokeRole("v", "r"))
	l.want(ErrUserNotFound, func(c *Change) error { return c.ChangePassword("v", nil) })
	l.want(ErrNotEnabled, func(c *Change) error { return c.AssignToken("u", "t") })
	l.want(ErrRoleEmpty, addRole(""))
	l.must(addRole("r"))
	l.want(ErrRoleExists, addRole("r"))
	l.want(ErrRoleNotFound, deleteRole("s"))
	l.want(ErrRoleNotFound, permit("s", Read, "a", "b"))
	l.want(ErrInvalidManagement, permit("s", Read, "b", "a"))
	l.want(ErrInvalidManagement, permit("r", Read, "", ""))
	l.want(ErrInvalidManagement, permit("r", Read, "", "\x00"))
	l.want(ErrInvalidManagement, permit("r", Read, "b", "b"))
	l.want(ErrRoleNotFound, forbid("s", "a", ""))
	l.want(ErrPermissionNotGranted, forbid("r", "a", ""))
	l.must(addUser(Root))
	l.want(ErrRootRoleMissing, enable)
	l.must(addRole(Root), grantRole(Root, Root), enable, enable)
	l.want(ErrInvalidManagement, deleteUser(Root))
	l.want(ErrInvalidManagement, revokeRole(Root, Root))
	l.want(ErrInvalidManagement, deleteRole(Root))
	l.want(ErrFailed, func(c *Change) error { return c.AssignToken("v", "t") })
}

// TestAPermissionIsTakenByItsWholeRange: others that begin or end where it does stay.
func TestAPermissionIsTakenByItsWholeRange(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.must(addRole("r"), permit("r", Read, "a", "c"), permit("r", Write, "a", "d"), permit("r", ReadWrite, "b", "c"), permit("r", Read, "a", ""))
	l.must(forbid("r", "a", "c"))
	l.want(ErrPermissionNotGranted, forbid("r", "a", "c"))
	r, _ := l.table.Role("r")
	var left []string
	for _, p := range r.Permissions {
		left = append(left, fmt.Sprintf("%s-%s", p.Key, p.End))
	}
	slices.Sort(left)
	if want := []string{"a-", "a-d", "b-c"}; !slices.Equal(left, want) {
		t.Errorf("the permissions left are %q, want %q", left, want)
	}
}

func TestWhatALoginIsCheckedAgainst(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.must(addUser(Root), grantRole(Root, Root), addUser("u"), func(c *Change) error {
		return c.AddUser(User{Name: "none", NoPassword: true, Hash: []byte("of nothing")})
	})
	for _, on := range []bool{false, true} {
		for name, c := range map[string]struct {
			hash string
			err  error
		}{"u": {"hash of u", nil}, "none": {"", ErrNoPasswordUser}, "nobody": {"", ErrFailed}} {
			if !on {
				c.hash, c.err = "", ErrNotEnabled
			}
			hash, revision, err := l.table.Login(name)
			if string(hash) != c.hash || !errors.Is(err, c.err) || revision != l.table.Revision() {
				t.Errorf("authentication on: %t: %s: %q at %d, %v", on, name, hash, revision, err)
			}
		}
		if !on {
			l.must(enable)
		}
	}
}

func TestTheAuthRevisionCountsChanges(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, step := range []struct {
		does  string
		do    func(*Change) error
		count uint64
	}{
		{"a user is added", addUser(Root), 1},
		{"a role is added", addRole("r"), 1},
		{"a permission is granted", permit("r", Read, "a", "b"), 1},
		{"the same one again", permit("r", Read, "a", "b"), 1},
		{"a permission is taken", forbid("r", "a", "b"), 1},
		{"a role is granted", grantRole(Root, "r"), 1},
		{"a role is granted again", grantRole(Root, "r"), 0},
		{"a role is taken", revokeRole(Root, "r"), 1},
		{"root is granted, though there is no such role", grantRole(Root, Root), 1},
		{"a password is changed", func(c *Change) error { return c.ChangePassword(Root, nil) }, 1},
		{"authentication is switched on", enable, 0},
		{"and on again", enable, 0},
		{"a token is assigned", func(c *Change) error { return c.AssignToken(Root, "t") }, 0},
		{"a role is deleted", deleteRole("r"), 1},
		{"authentication is switched off", disable, 1},
		{"and off again", disable, 0},
		{"a user is deleted", deleteUser(Root), 1},
	} {
		before := l.table.Revision()
		l.must(step.do)
		if got := l.table.Revision() - before; got != step.count {
			t.Errorf("%s: the auth revision grew by %d, want %d", step.does, got, step.count)
		}
	}
}

func describe(t *Table) string {
	enabled, revision := t.Status()
	s := fmt.Sprintf("%t %d", enabled, revision)
	for _, name := range t.Users() {
		u, _ := t.User(name)
		s += fmt.Sprintf(" user %s %q %t %q", u.Name, u.Hash, u.NoPassword, u.Roles)
	}
	for _, name := range t.Roles() {
		r, _ := t.Role(name)
		s += fmt.Sprintf(" role %s", r.Name)
		for _, p := range r.Permissions {
			s += fmt.Sprintf(" %d %q %q", p.Kind, p.Key, p.End)
		}
	}
	return s
}

func TestWhatWasPublishedIsThereAfterAReopen(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	if got := describe(l.table); got != "false 1" {
		t.Errorf("a new state has %s", got)
	}
	l.must(addUser(Root), grantRole(Root, Root), addRole("r"), addRole("gone"), permit("r", ReadWrite, "a", "\x00"), permit("r", 7, "\x00", ""),
		addUser("u"), grantRole("u", "r"), grantRole("u", "gone"), addUser("gone"), deleteUser("gone"), deleteRole("gone"), enable,
		func(c *Change) error { return c.AddUser(User{Name: "n\x00", NoPassword: true, Hash: []byte("x")}) },
		func(c *Change) error { return c.ChangePassword("n\x00", []byte("y")) })
	want := describe(l.table)
	l.reopen()
	if got := describe(l.table); got != want {
		t.Errorf("after a reopen\n%s, before\n%s", got, want)
	}
	const says = `true 15 user n` + "\x00" + ` "" true [] user root "hash of root" false ["root"] user u "hash of u" false ["r"]` +
		` role r 7 "\x00" "" 2 "a" "\x00"`
	if want != says {
		t.Errorf("got\n%s, want\n%s", want, says)
	}
}

func TestAGroupSeesItselfAndReadersSeeItWhole(t *testing.T) {
	t.Parallel()
	l := enabled(t)
	l.must(addRole("r"), permit("r", Read, "a", "b"), addUser("u"), grantRole("u", "r"))
	l.group(func(c *Change) {
		l.check(c.RevokePermission("r", []byte("a"), []byte("b")))
		j := c.Judge(Subject{"u", l.table.Revision() + 1})
		if err := j.Read([]byte("a"), nil); err != ErrPermissionDenied {
			t.Errorf("in the group: %v", err)
		}
		if err := l.judge("u").Read([]byte("a"), nil); err != nil {
			t.Errorf("outside of it: %v", err)
		}
		l.check(c.DeleteUser("u"))
		l.check(c.AddUser(User{Name: "u"}))
		l.check(c.GrantRole("u", "r"))
		l.check(c.DeleteRole("r"))
		if u := c.user("u"); len(u.Roles) != 0 {
			t.Errorf("roles in the group: %q", u.Roles)
		}
		if c.Missing("u") || c.HasNoPassword("u") {
			t.Error("the user is missing")
		}
	})
	if u, ok := l.table.User("u"); !ok || len(u.Roles) != 0 || u.Hash != nil {
		t.Errorf("afterwards: %+v", u)
	}
	if err := l.judge("u").Read([]byte("a"), nil); err != ErrPermissionDenied {
		t.Errorf("afterwards: %v", err)
	}
}

func TestAGroupThatIsDroppedLeavesNothing(t *testing.T) {
	t.Parallel()
	l := enabled(t)
	want := describe(l.table)
	b := l.db.NewBatch()
	c := l.table.Begin(b)
	l.check(c.AddUser(User{Name: "u"}))
	l.check(c.Disable())
	c.Announce()
	c.Close()
	l.check(b.Close())
	if got := describe(l.table); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, _, err := l.table.Settled(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestEventsComeInTheOrderOfTheLog(t *testing.T) {
	t.Parallel()
	l := enabled(t)
	l.events = nil
	l.must(addUser("u"))
	l.group(func(c *Change) {
		l.check(c.AssignToken("u", "1"))
		l.check(c.ChangePassword("u", nil))
		l.check(c.AssignToken("u", "2"))
	})
	l.must(deleteUser("u"), disable)
	want := []Event{
		{TokenAssigned, "u", "1"}, {UserChanged, "u", ""}, {TokenAssigned, "u", "2"}, {UserChanged, "u", ""}, {Kind: Disabled},
	}
	if !slices.Equal(l.events, want) {
		t.Errorf("got %v", l.events)
	}
}

// TestWhatTokensHangOnIsToldBeforeTheNewAuthRevisionIsSeen: a token that ends with it would else be good by it.
func TestWhatTokensHangOnIsToldBeforeTheNewAuthRevisionIsSeen(t *testing.T) {
	t.Parallel()
	l := enabled(t)
	l.must(addUser("u"))
	for name, end := range map[string]func(*Change) error{
		"a password is changed": func(c *Change) error { return c.ChangePassword("u", nil) },
		"a user is added again": func(c *Change) error { return errors.Join(c.DeleteUser("u"), c.AddUser(User{Name: "u"})) },
	} {
		before, told := l.table.Revision(), uint64(0)
		l.table.Observe(func([]Event) { told = l.table.Revision() })
		l.must(end)
		if told != before || l.table.Revision() == before {
			t.Errorf("%s: told at the auth revision %d, from %d to %d", name, told, before, l.table.Revision())
		}
	}
}

// TestPermissionsStandAsEtcdKeepsThem has what etcd 3.7.1 answered to the same grants: with more than twelve permissions its
// sort moves equal keys.
func TestPermissionsStandAsEtcdKeepsThem(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.must(addRole("r"), addRole("big"))
	for _, p := range []struct {
		end  string
		kind Kind
	}{{"c", Read}, {"b", Write}, {"d", ReadWrite}, {"b", Read}, {"d", Read}, {"c", ReadWrite}, {"", ReadWrite}, {"", Read}} {
		l.must(permit("r", p.kind, "a", p.end))
	}
	r, _ := l.table.Role("r")
	got := ""
	for _, p := range r.Permissions {
		got += fmt.Sprintf("%d%q ", p.Kind, p.End)
	}
	if want := `2"c" 1"b" 2"d" 0"b" 0"d" 2"" 0"" `; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for i := range 16 {
		l.must(permit("big", Read, "k", fmt.Sprintf("l%c", 'a'+(i*7)%16)))
		l.must(permit("big", Read, fmt.Sprintf("%c", 'a'+(i*5)%16), "z"))
	}
	big, _ := l.table.Role("big")
	got = ""
	for _, p := range big.Permissions {
		if string(p.Key) == "k" {
			got += string(p.End) + " "
		}
	}
	if want := "lp ln lb lo li lm ld lh la lk z le ll lf lc lg lj "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
