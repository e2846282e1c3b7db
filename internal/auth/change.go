package auth

import (
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Change is what one group of entries does to users and roles. It belongs to one goroutine, and only one may be under way. Its
// methods return refusals, which have changed nothing, or errors of storage, after which the group must be dropped.
type Change struct {
	t *Table
	b *storage.Batch

	standing standing
	// users and roles are those the group has changed; nil where one is gone.
	users  map[string]*account
	roles  map[string]*Role
	events []Event
	regranted,
	changed bool
}

// Begin starts a group's change; its records go into b. It sees itself; readers see it after Publish. Close must be called
// at the end.
func (t *Table) Begin(b *storage.Batch) *Change {
	return &Change{t: t, b: b, standing: *t.standing.Load()}
}

// Enabled tells whether authentication is on, as the group sees it.
func (c *Change) Enabled() bool { return c.standing.enabled }

// Judge returns what a subject may do, as the group sees it.
func (c *Change) Judge(s Subject) Judge {
	if !c.standing.enabled {
		return Judge{}
	}
	if len(c.users) == 0 && len(c.roles) == 0 {
		c.t.mu.RLock()
		defer c.t.mu.RUnlock()
		return c.t.judgeLocked(s, c.standing)
	}
	j := Judge{enabled: true, subject: s, revision: c.standing.revision, user: c.user(s.User)}
	if j.user == nil {
		return j
	}
	if j.root = j.user.Has(Root); !j.root {
		j.merged = mergeRoles(j.user.Roles, c.role)
	}
	return j
}

// user returns a user as the group sees it, nil when there is none.
func (c *Change) user(name string) *account {
	if a, ok := c.users[name]; ok {
		return a
	}
	c.t.mu.RLock()
	defer c.t.mu.RUnlock()
	return c.t.users[name]
}

// role returns a role as the group sees it, nil when there is none.
func (c *Change) role(name string) *Role {
	if r, ok := c.roles[name]; ok {
		return r
	}
	c.t.mu.RLock()
	defer c.t.mu.RUnlock()
	return c.t.roles[name]
}

// Enable switches authentication on; it may be on already. The error is ErrRootUserMissing or ErrRootRoleMissing.
func (c *Change) Enable() error {
	if c.standing.enabled {
		return nil
	}
	root := c.user(Root)
	switch {
	case root == nil:
		return ErrRootUserMissing
	case !root.Has(Root):
		return ErrRootRoleMissing
	}
	c.standing.enabled = true
	return c.storeStanding()
}

// Disable switches authentication off, which ends all tokens; it may be off already.
func (c *Change) Disable() error {
	if !c.standing.enabled {
		return nil
	}
	c.standing.enabled = false
	c.events = append(c.events, Event{Kind: Disabled})
	return c.count()
}

// AssignToken gives a user a token. The password was checked by whoever proposed it. The error is ErrNotEnabled, or ErrFailed when there
// is no such user or it has no password.
func (c *Change) AssignToken(user, token string) error {
	if !c.standing.enabled {
		return ErrNotEnabled
	}
	if a := c.user(user); a == nil || a.NoPassword {
		return ErrFailed
	}
	c.changed = true
	c.events = append(c.events, Event{Kind: TokenAssigned, User: user, Token: token})
	return nil
}

// count takes an auth revision.
func (c *Change) count() error {
	c.standing.revision++
	return c.storeStanding()
}

func (c *Change) storeStanding() error {
	c.changed = true
	if err := c.b.Set(StandingKey(), c.standing.encode(), nil); err != nil {
		return fmt.Errorf("store the auth revision: %w", err)
	}
	return nil
}

// setUser stores a user.
func (c *Change) setUser(u User) error {
	v, err := encodeUser(&u)
	if err == nil {
		err = c.b.Set(recordKey(RecordUser, u.Name), v, nil)
	}
	if err != nil {
		return fmt.Errorf("store the user %q: %w", u.Name, err)
	}
	c.putUser(u.Name, &account{User: u})
	return nil
}

func (c *Change) putUser(name string, a *account) {
	if c.users == nil {
		c.users = make(map[string]*account)
	}
	c.users[name], c.changed = a, true
}

// setRole stores a role.
func (c *Change) setRole(r *Role) error {
	v, err := encodeRole(r)
	if err == nil {
		err = c.b.Set(recordKey(RecordRole, r.Name), v, nil)
	}
	if err != nil {
		return fmt.Errorf("store the role %q: %w", r.Name, err)
	}
	c.putRole(r.Name, r)
	return nil
}

func (c *Change) putRole(name string, r *Role) {
	if c.roles == nil {
		c.roles = make(map[string]*Role)
	}
	c.roles[name], c.changed, c.regranted = r, true, true
}

// Announce says that the group's batch is about to be committed, which lets Settled wait. Publish or Close must follow.
func (c *Change) Announce() {
	if c.changed {
		published := make(chan struct{})
		c.t.announced.Store(&published)
	}
}

// Close ends the group, published or not.
func (c *Change) Close() {
	if published := c.t.announced.Swap(nil); published != nil {
		close(*published)
	}
}

// Publish tells the observer of the change, after its batch was committed, and makes it visible.
func (c *Change) Publish() {
	if !c.changed {
		return
	}
	// First: a token that ends must not be taken for one by the new auth revision.
	if c.t.observe != nil && len(c.events) > 0 {
		c.t.observe(c.events)
	}
	c.publish()
	c.Close()
	*c = Change{t: c.t, b: c.b, standing: c.standing}
}

func (c *Change) publish() {
	t := c.t
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, a := range c.users {
		if a == nil {
			delete(t.users, name)
		} else {
			t.users[name] = a
		}
	}
	for name, r := range c.roles {
		if r == nil {
			delete(t.roles, name)
		} else {
			t.roles[name] = r
		}
	}
	if c.regranted {
		t.grants++
	}
	s := c.standing
	t.standing.Store(&s)
}
