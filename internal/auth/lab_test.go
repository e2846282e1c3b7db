package auth

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// lab is a table on a state in memory.
type lab struct {
	t      testing.TB
	fs     *vfs.MemFS
	db     *storage.DB
	table  *Table
	events []Event
}

func newLab(t testing.TB) *lab {
	l := &lab{t: t, fs: vfs.NewMem()}
	l.open()
	t.Cleanup(func() { l.check(l.db.Close()) })
	return l
}

func (l *lab) check(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) open() {
	l.t.Helper()
	var err error
	l.db, err = storage.OpenState("state", storage.Options{FS: l.fs})
	l.check(err)
	l.table, err = Load(l.db)
	l.check(err)
	l.table.Observe(func(events []Event) { l.events = append(l.events, events...) })
}

func (l *lab) reopen() {
	l.t.Helper()
	l.check(l.db.Flush())
	l.check(l.db.Close())
	l.open()
}

// group commits what do does as one group.
func (l *lab) group(do func(c *Change)) {
	l.t.Helper()
	b := l.db.NewBatch()
	c := l.table.Begin(b)
	do(c)
	c.Announce()
	l.check(l.db.Commit(b))
	c.Publish()
	c.Close()
	l.check(b.Close())
}

// do commits one command and returns its refusal.
func (l *lab) do(command func(c *Change) error) (refusal error) {
	l.t.Helper()
	before := l.table.Revision()
	l.group(func(c *Change) {
		refusal = command(c)
		if refusal != nil && !IsRefusal(refusal) {
			l.check(refusal)
		}
		if refusal != nil && c.changed {
			l.t.Errorf("refused with %v, and something was changed", refusal)
		}
	})
	if refusal != nil && l.table.Revision() != before {
		l.t.Errorf("refused with %v, and the auth revision went from %d to %d", refusal, before, l.table.Revision())
	}
	return refusal
}

// must commits commands that are not refused.
func (l *lab) must(commands ...func(c *Change) error) {
	l.t.Helper()
	for _, command := range commands {
		if err := l.do(command); err != nil {
			l.t.Fatalf("refused: %v", err)
		}
	}
}

func (l *lab) want(want error, command func(c *Change) error) {
	l.t.Helper()
	if err := l.do(command); !errors.Is(err, want) {
		l.t.Errorf("got %v, want %v", err, want)
	}
}

func addUser(name string) func(*Change) error {
	return func(c *Change) error { return c.AddUser(User{Name: name, Hash: []byte("hash of " + name)}) }
}

func addRole(name string) func(*Change) error {
	return func(c *Change) error { return c.AddRole(name) }
}

func grantRole(user, role string) func(*Change) error {
	return func(c *Change) error { return c.GrantRole(user, role) }
}

func revokeRole(user, role string) func(*Change) error {
	return func(c *Change) error { return c.RevokeRole(user, role) }
}

func deleteUser(name string) func(*Change) error {
	return func(c *Change) error { return c.DeleteUser(name) }
}

func deleteRole(name string) func(*Change) error {
	return func(c *Change) error { return c.DeleteRole(name) }
}

func permit(role string, kind Kind, key, end string) func(*Change) error {
	return func(c *Change) error {
		return c.GrantPermission(role, Permission{Kind: kind, Key: []byte(key), End: []byte(end)})
	}
}

func forbid(role, key, end string) func(*Change) error {
	return func(c *Change) error { return c.RevokePermission(role, []byte(key), []byte(end)) }
}

func enable(c *Change) error  { return c.Enable() }
func disable(c *Change) error { return c.Disable() }

// enabled is a lab with root and authentication on.
func enabled(t testing.TB) *lab {
	l := newLab(t)
	l.must(addUser(Root), grantRole(Root, Root), enable)
	return l
}

// judge is what a user may do now.
func (l *lab) judge(user string) *Judge {
	j := l.table.Judge(Subject{user, l.table.Revision()})
	return &j
}
