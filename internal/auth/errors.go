package auth

import "errors"

// refusal is an error that is the result of a command, and no failure.
type refusal string

func (r refusal) Error() string { return string(r) }

// IsRefusal tells whether an error is, or wraps, one of those below: the answer to whoever asked.
func IsRefusal(err error) bool {
	var r refusal
	return errors.As(err, &r)
}

// The refusals. The texts are etcd's.
const (
	// ErrUserEmpty is returned when a user without a name is added, and when something that needs a user is asked for
	// without one.
	ErrUserEmpty refusal = "auth: user name is empty"
	// ErrUserExists is returned when a user is added whose name is taken.
	ErrUserExists refusal = "auth: user already exists"
	// ErrUserNotFound is returned for a user that is not there.
	ErrUserNotFound refusal = "auth: user not found"
	// ErrRoleEmpty is returned when a role without a name is added.
	ErrRoleEmpty refusal = "auth: role name is empty"
	// ErrRoleExists is returned when a role is added whose name is taken.
	ErrRoleExists refusal = "auth: role already exists"
	// ErrRoleNotFound is returned for a role that is not there.
	ErrRoleNotFound refusal = "auth: role not found"
	// ErrRoleNotGranted is returned when a role is taken from a user that does not have it.
	ErrRoleNotGranted refusal = "auth: role is not granted to the user"
	// ErrPermissionNotGiven is returned for a grant that names no permission.
	ErrPermissionNotGiven refusal = "auth: permission not given"
	// ErrPermissionNotGranted is returned when a permission is taken from a role that does not have it.
	ErrPermissionNotGranted refusal = "auth: permission is not granted to the role"
	// ErrPermissionDenied is returned when a user may not do what it asked for.
	ErrPermissionDenied refusal = "auth: permission denied"
	// ErrInvalidManagement is returned for a range of keys that is none, and for what would take root away while
	// authentication is on.
	ErrInvalidManagement refusal = "auth: invalid auth management"
	// ErrRootUserMissing is returned when authentication is switched on without a user root.
	ErrRootUserMissing refusal = "auth: root user does not exist"
	// ErrRootRoleMissing is returned when authentication is switched on while the user root lacks the role root.
	ErrRootRoleMissing refusal = "auth: root user does not have root role"
	// ErrNotEnabled is returned to those who log in while authentication is off.
	ErrNotEnabled refusal = "auth: authentication is not enabled"
	// ErrFailed is returned for a user or a password that is wrong.
	ErrFailed refusal = "auth: authentication failed, invalid user ID or password"
	// ErrNoPasswordUser is returned when a user logs in that has no password, and for a hash that cannot be read.
	ErrNoPasswordUser refusal = "auth: authentication failed, password was given for no password user"
	// ErrOldRevision is returned when users, roles or permissions have changed since the subject was checked.
	ErrOldRevision refusal = "auth: revision in header is old"
)
