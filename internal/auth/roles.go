package auth

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"sort"
)

// AddRole adds a role without permissions. The error is ErrRoleEmpty or ErrRoleExists.
func (c *Change) AddRole(name string) error {
	if name == "" {
		return ErrRoleEmpty
	}
	if c.role(name) != nil {
		return ErrRoleExists
	}
	if err := c.setRole(&Role{Name: name}); err != nil {
		return err
	}
	return c.count()
}

// DeleteRole removes a role, also from all users. The error is ErrInvalidManagement for root while authentication is on,
// or ErrRoleNotFound.
func (c *Change) DeleteRole(name string) error {
	if c.standing.enabled && name == Root {
		return ErrInvalidManagement
	}
	if c.role(name) == nil {
		return ErrRoleNotFound
	}
	if err := c.b.Delete(recordKey(RecordRole, name), nil); err != nil {
		return fmt.Errorf("remove the role %q: %w", name, err)
	}
	c.putRole(name, nil)
	for _, user := range c.holders(name) {
		if err := c.setUser(without(c.user(user).User, name)); err != nil {
			return err
		}
	}
	return c.count()
}

// holders returns who has a role, sorted, as the group sees it.
func (c *Change) holders(role string) []string {
	has := make(map[string]bool)
	c.t.mu.RLock()
	for name, a := range c.t.users {
		if a.Has(role) {
			has[name] = true
		}
	}
	c.t.mu.RUnlock()
	for name, a := range c.users {
		if delete(has, name); a != nil && a.Has(role) {
			has[name] = true
		}
	}
	return slices.Sorted(maps.Keys(has))
}

// GrantPermission gives a role a permission, whose slices are kept. The order of permissions, and which of several with one key
// changes its kind, is etcd's: see docs/format/state.md. The error is ErrInvalidManagement for a range that is none, or
// ErrRoleNotFound.
func (c *Change) GrantPermission(role string, p Permission) error {
	if !validRange(p.Key, p.End) {
		return ErrInvalidManagement
	}
	r := c.role(role)
	if r == nil {
		return ErrRoleNotFound
	}
	all := append(make([]Permission, 0, len(r.Permissions)+1), r.Permissions...)
	first, _ := slices.BinarySearchFunc(all, p.Key, func(x Permission, key []byte) int { return bytes.Compare(x.Key, key) })
	if first < len(all) && bytes.Equal(all[first].Key, p.Key) && bytes.Equal(all[first].End, p.End) {
		all[first].Kind = p.Kind
	} else {
		all = append(all, p)
		sort.Sort(byKey(all))
	}
	if err := c.setRole(&Role{Name: role, Permissions: all}); err != nil {
		return err
	}
	return c.count()
}

// byKey sorts permissions as etcd does; sort.Sort is not stable, and its very order is part of the format.
type byKey []Permission

func (p byKey) Len() int           { return len(p) }
func (p byKey) Less(i, j int) bool { return bytes.Compare(p[i].Key, p[j].Key) < 0 }
func (p byKey) Swap(i, j int)      { p[i], p[j] = p[j], p[i] }

// RevokePermission takes every permission of a range from a role. The error is ErrRoleNotFound or
// ErrPermissionNotGranted.
func (c *Change) RevokePermission(role string, key, end []byte) error {
	r := c.role(role)
	if r == nil {
		return ErrRoleNotFound
	}
	var rest []Permission
	for _, p := range r.Permissions {
		if !bytes.Equal(p.Key, key) || !bytes.Equal(p.End, end) {
			rest = append(rest, p)
		}
	}
	if len(rest) == len(r.Permissions) {
		return ErrPermissionNotGranted
	}
	if err := c.setRole(&Role{Name: role, Permissions: rest}); err != nil {
		return err
	}
	return c.count()
}
