package rpc

import (
	"context"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/auth"
)

// UserAdd implements etcdserverpb.AuthServer. What goes into the log has the hash of the password, never itself; an empty one
// is a password, too.
func (s *Auth) UserAdd(ctx context.Context, r *etcdserverpb.AuthUserAddRequest) (*etcdserverpb.AuthUserAddResponse, error) {
	if r.GetName() == "" {
		return nil, rpctypes.ErrGRPCUserEmpty // no need to make a hash for that
	}
	if err := checkName(r.GetName()); err != nil {
		return nil, err
	}
	out := &etcdserverpb.AuthUserAddRequest{
		Name: r.GetName(), Options: &authpb.UserAddOptions{NoPassword: r.GetOptions().GetNoPassword()},
	}
	if !out.Options.NoPassword {
		var err error
		if out.HashedPassword, err = s.member.HashPassword(ctx, r.GetPassword()); err != nil {
			return nil, toStatus(err)
		}
	}
	h, err := s.change(ctx, apply.CommandAuthUserAdd, out)
	if err != nil {
		return nil, err
	}
	return &etcdserverpb.AuthUserAddResponse{Header: h}, nil
}

// UserGet implements etcdserverpb.AuthServer.
func (s *Auth) UserGet(ctx context.Context, r *etcdserverpb.AuthUserGetRequest) (*etcdserverpb.AuthUserGetResponse, error) {
	if err := s.ask(ctx, func(j *auth.Judge) error { return j.MayAskForUser(r.GetName()) }); err != nil {
		return nil, err
	}
	u, ok := s.member.Accounts().User(r.GetName())
	if !ok {
		return nil, toStatus(auth.ErrUserNotFound)
	}
	return &etcdserverpb.AuthUserGetResponse{Header: s.header(0), Roles: u.Roles}, nil
}

// ask waits for what is committed and then holds a question to a need. The rule of a method does not do for a question: it may have let in somebody
// who has lost that right, in what this member had yet to apply.
func (s *Auth) ask(ctx context.Context, need func(*auth.Judge) error) error {
	if err := s.member.ReadBarrier(ctx); err != nil {
		return toStatus(err)
	}
	_, err := s.gate.admit(ctx, need)
	return toStatus(err)
}

// UserList implements etcdserverpb.AuthServer.
func (s *Auth) UserList(ctx context.Context, _ *etcdserverpb.AuthUserListRequest) (*etcdserverpb.AuthUserListResponse, error) {
	if err := s.ask(ctx, admin); err != nil {
		return nil, err
	}
	return &etcdserverpb.AuthUserListResponse{Header: s.header(0), Users: s.member.Accounts().Users()}, nil
}

// UserDelete implements etcdserverpb.AuthServer.
func (s *Auth) UserDelete(ctx context.Context, r *etcdserverpb.AuthUserDeleteRequest) (*etcdserverpb.AuthUserDeleteResponse, error) {
	h, err := s.change(ctx, apply.CommandAuthUserDelete, &etcdserverpb.AuthUserDeleteRequest{Name: r.GetName()})
	if err != nil {
		return nil, err
	}
	return &etcdserverpb.AuthUserDeleteResponse{Header: h}, nil
}

// UserChangePassword implements etcdserverpb.AuthServer. As in etcd no password at all takes the old one away, or makes way
// for a hash that the client brings.
func (s *Auth) UserChangePassword(ctx context.Context, r *etcdserverpb.AuthUserChangePasswordRequest) (*etcdserverpb.AuthUserChangePasswordResponse, error) {
	out := &etcdserverpb.AuthUserChangePasswordRequest{Name: r.GetName(), HashedPassword: r.GetHashedPassword()}
	if r.GetPassword() != "" {
		var err error
		if out.HashedPassword, err = s.member.HashPassword(ctx, r.GetPassword()); err != nil {
			return nil, toStatus(err)
		}
	}
	h, err := s.change(ctx, apply.CommandAuthUserChangePassword, out)
	if err != nil {
		return nil, err
	}
	return &etcdserverpb.AuthUserChangePasswordResponse{Header: h}, nil
}

// UserGrantRole implements etcdserverpb.AuthServer.
func (s *Auth) UserGrantRole(ctx context.Context, r *etcdserverpb.AuthUserGrantRoleRequest) (*etcdserverpb.AuthUserGrantRoleResponse, error) {
	h, err := s.change(ctx, apply.CommandAuthUserGrantRole, &etcdserverpb.AuthUserGrantRoleRequest{User: r.GetUser(), Role: r.GetRole()})
	if err != nil {
		return nil, err
	}
	return &etcdserverpb.AuthUserGrantRoleResponse{Header: h}, nil
}

// UserRevokeRole implements etcdserverpb.AuthServer.
func (s *Auth) UserRevokeRole(ctx context.Context, r *etcdserverpb.AuthUserRevokeRoleRequest) (*etcdserverpb.AuthUserRevokeRoleResponse, error) {
	h, err := s.change(ctx, apply.CommandAuthUserRevokeRole, &etcdserverpb.AuthUserRevokeRoleRequest{Name: r.GetName(), Role: r.GetRole()})
	if err != nil {
		return nil, err
	}
	return &etcdserverpb.AuthUserRevokeRoleResponse{Header: h}, nil
}
