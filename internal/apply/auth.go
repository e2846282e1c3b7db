package apply

import (
	"encoding/base64"
	"fmt"
	"strconv"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/auth"
)

// authenticateToken is the field of AuthenticateResponse.
const authenticateToken = 2

// accounts returns the group's change of users and roles.
func (g *group) accounts() *auth.Change {
	if g.authChange == nil {
		g.authChange = g.m.accounts.Begin(g.w.Batch())
	}
	return g.authChange
}

// closeAccounts ends the group's change of users and roles, published or not.
func (g *group) closeAccounts() {
	if g.authChange != nil {
		g.authChange.Close()
	}
}

// auth applies a command about users, roles and permissions. known is false for any other.
func (g *group) auth(cmd Command, raw []byte, index uint64) (body []byte, known bool, err error) {
	c := g.accounts()
	switch cmd {
	case CommandAuthEnable:
		err = c.Enable()
	case CommandAuthDisable:
		err = c.Disable()
	case CommandAuthenticate:
		body, err = g.authenticate(raw, index)
	case CommandAuthUserAdd:
		err = parsed(raw, g.userAdd)
	case CommandAuthUserDelete:
		err = parsed(raw, func(r *etcdserverpb.AuthUserDeleteRequest) error { return c.DeleteUser(r.GetName()) })
	case CommandAuthUserChangePassword:
		err = parsed(raw, g.userChangePassword)
	case CommandAuthUserGrantRole:
		err = parsed(raw, func(r *etcdserverpb.AuthUserGrantRoleRequest) error { return c.GrantRole(r.GetUser(), r.GetRole()) })
	case CommandAuthUserRevokeRole:
		err = parsed(raw, func(r *etcdserverpb.AuthUserRevokeRoleRequest) error { return c.RevokeRole(r.GetName(), r.GetRole()) })
	case CommandAuthRoleAdd:
		err = parsed(raw, func(r *etcdserverpb.AuthRoleAddRequest) error { return c.AddRole(r.GetName()) })
	case CommandAuthRoleDelete:
		err = parsed(raw, func(r *etcdserverpb.AuthRoleDeleteRequest) error { return c.DeleteRole(r.GetRole()) })
	case CommandAuthRoleGrantPermission:
		err = parsed(raw, g.roleGrantPermission)
	case CommandAuthRoleRevokePermission:
		err = parsed(raw, func(r *etcdserverpb.AuthRoleRevokePermissionRequest) error {
			return c.RevokePermission(r.GetRole(), r.GetKey(), r.GetRangeEnd())
		})
	default:
		return nil, false, nil
	}
	return body, true, err
}

// parsed calls do with the decoded request.
func parsed[R any, P interface {
	*R
	proto.Message
}](raw []byte, do func(P) error) error {
	r := P(new(R))
	if err := proto.Unmarshal(raw, r); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return do(r)
}

// hash returns the hash of a password in an entry. etcd before 3.5 logged the password itself, and each of its members made a
// hash of its own from it: what such an entry did cannot be known.
func hash(password, hashed string) ([]byte, error) {
	if password != "" && hashed == "" {
		return nil, ErrPlainPassword
	}
	b, err := base64.StdEncoding.DecodeString(hashed)
	if err != nil {
		return nil, auth.ErrNoPasswordUser
	}
	return b, nil
}

// userAdd applies an AuthUserAddRequest.
func (g *group) userAdd(r *etcdserverpb.AuthUserAddRequest) error {
	u := auth.User{Name: r.GetName(), NoPassword: r.GetOptions().GetNoPassword()}
	var err error
	if !u.NoPassword && u.Name != "" && g.accounts().Missing(u.Name) {
		u.Hash, err = hash(r.GetPassword(), r.GetHashedPassword())
	}
	if err != nil {
		return err
	}
	return g.accounts().AddUser(u)
}

// userChangePassword applies an AuthUserChangePasswordRequest.
func (g *group) userChangePassword(r *etcdserverpb.AuthUserChangePasswordRequest) error {
	c := g.accounts()
	if c.Missing(r.GetName()) || c.HasNoPassword(r.GetName()) {
		return c.ChangePassword(r.GetName(), nil)
	}
	b, err := hash(r.GetPassword(), r.GetHashedPassword())
	if err != nil {
		return err
	}
	return c.ChangePassword(r.GetName(), b)
}

// roleGrantPermission applies an AuthRoleGrantPermissionRequest.
func (g *group) roleGrantPermission(r *etcdserverpb.AuthRoleGrantPermissionRequest) error {
	p := r.GetPerm()
	if p == nil {
		return auth.ErrPermissionNotGiven
	}
	return g.accounts().GrantPermission(r.GetName(), auth.Permission{
		Kind: auth.Kind(p.GetPermType()), Key: p.GetKey(), End: p.GetRangeEnd(),
	})
}

// authenticate applies an InternalAuthenticateRequest, whose password was checked by the member that proposed it. A member
// that keeps simple tokens gave a text; the token is that text and the index of the entry before, so that no two are alike. That
// it is not the entry's own is etcd's doing, and members of both kinds must know the same tokens.
func (g *group) authenticate(raw []byte, index uint64) (body []byte, err error) {
	err = parsed(raw, func(r *etcdserverpb.InternalAuthenticateRequest) error {
		var token string
		if r.GetSimpleToken() != "" {
			token = r.GetSimpleToken() + "." + strconv.FormatUint(index-1, 10)
			body = appendField(nil, authenticateToken, []byte(token))
		}
		return g.accounts().AssignToken(r.GetName(), token)
	})
	if err != nil {
		return nil, err
	}
	return body, nil
}
