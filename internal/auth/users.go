package auth

import (
	"fmt"
	"slices"
)

// AddUser adds a user without roles; its slices are kept. The error is ErrUserEmpty or ErrUserExists.
func (c *Change) AddUser(u User) error {
	if u.Name == "" {
		return ErrUserEmpty
	}
	if c.user(u.Name) != nil {
		return ErrUserExists
	}
	if u.NoPassword {
		u.Hash = nil
	}
	u.Roles = nil
	if err := c.setUser(u); err != nil {
		return err
	}
	return c.count()
}

// DeleteUser removes a user. The error is ErrInvalidManagement for root while authentication is on, or ErrUserNotFound.
func (c *Change) DeleteUser(name string) error {
	if c.standing.enabled && name == Root {
		return ErrInvalidManagement
	}
	if c.user(name) == nil {
		return ErrUserNotFound
	}
	if err := c.b.Delete(recordKey(RecordUser, name), nil); err != nil {
		return fmt.Errorf("remove the user %q: %w", name, err)
	}
	c.putUser(name, nil)
	c.events = append(c.events, Event{Kind: UserChanged, User: name})
	return c.count()
}

// Missing tells whether there is no user of the name.
func (c *Change) Missing(name string) bool { return c.user(name) == nil }

// HasNoPassword tells whether a user is there that never has a password.
func (c *Change) HasNoPassword(name string) bool {
	a := c.user(name)
	return a != nil && a.NoPassword
}

// ChangePassword gives a user another hash, which is kept, and takes it away when it is empty. A user that has no
// password stays so, but its tokens end all the same. The error is ErrUserNotFound.
func (c *Change) ChangePassword(name string, hash []byte) error {
	a := c.user(name)
	if a == nil {
		return ErrUserNotFound
	}
	u := a.User
	if u.Hash = hash; u.NoPassword {
		u.Hash = nil
	}
	if err := c.setUser(u); err != nil {
		return err
	}
	c.events = append(c.events, Event{Kind: UserChanged, User: name})
	return c.count()
}

// GrantRole gives a user a role; it may have it already, which takes no auth revision. The role root need not be there.
// The error is ErrUserNotFound or ErrRoleNotFound.
func (c *Change) GrantRole(user, role string) error {
	a := c.user(user)
	if a == nil {
		return ErrUserNotFound
	}
	if role != Root && c.role(role) == nil {
		return ErrRoleNotFound
	}
	at, found := slices.BinarySearch(a.Roles, role)
	if found {
		return nil
	}
	u := a.User
	u.Roles = slices.Insert(slices.Clone(u.Roles), at, role)
	if err := c.setUser(u); err != nil {
		return err
	}
	return c.count()
}

// RevokeRole takes a role from a user. The error is ErrInvalidManagement for taking root from root while authentication
// is on, ErrUserNotFound or ErrRoleNotGranted.
func (c *Change) RevokeRole(user, role string) error {
	if c.standing.enabled && user == Root && role == Root {
		return ErrInvalidManagement
	}
	a := c.user(user)
	if a == nil {
		return ErrUserNotFound
	}
	if !a.Has(role) {
		return ErrRoleNotGranted
	}
	if err := c.setUser(without(a.User, role)); err != nil {
		return err
	}
	return c.count()
}

// without returns the user without a role.
func without(u User, role string) User {
	u.Roles = slices.DeleteFunc(slices.Clone(u.Roles), func(r string) bool { return r == role })
	return u
}
