package rpc

import (
	"context"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/auth"
)

// RoleAdd implements etcdserverpb.AuthServer.
func (s *Auth) RoleAdd(ctx context.Context, r *etcdserverpb.AuthRoleAddRequest) (*etcdserverpb.AuthRoleAddResponse, error) {
	if err := checkName(r.GetName()); err != nil {
		return nil, err
	}
	h, err := s.change(ctx, apply.CommandAuthRoleAdd, &etcdserverpb.AuthRoleAddRequest{Name: r.GetName()})
	if err != nil {
		return nil, err
	}
	return &etcdserverpb.AuthRoleAddResponse{Header: h}, nil
}

// RoleGet implements etcdserverpb.AuthServer. The role root may do everything, whatever was granted to it.
func (s *Auth) RoleGet(ctx context.Context, r *etcdserverpb.AuthRoleGetRequest) (*etcdserverpb.AuthRoleGetResponse, error) {
	if err := s.ask(ctx, func(j *auth.Judge) error { return j.MayAskForRole(r.GetRole()) }); err != nil {
		return nil, err
	}
	role, ok := s.member.Accounts().Role(r.GetRole())
	if !ok {
		return nil, toStatus(auth.ErrRoleNotFound)
	}
	if role.Name == auth.Root {
		role.Permissions = []auth.Permission{{Kind: auth.ReadWrite, End: []byte{0}}}
	}
	out := &etcdserverpb.AuthRoleGetResponse{Header: s.header(0)}
	for _, p := range role.Permissions {
		out.Perm = append(out.Perm, &authpb.Permission{PermType: authpb.Permission_Type(p.Kind), Key: p.Key, RangeEnd: p.End})
	}
	return out, nil
}

// RoleList implements etcdserverpb.AuthServer.
func (s *Auth) RoleList(ctx context.Context, _ *etcdserverpb.AuthRoleListRequest) (*etcdserverpb.AuthRoleListResponse, error) {
	if err := s.ask(ctx, admin); err != nil {
		return nil, err
	}
	return &etcdserverpb.AuthRoleListResponse{Header: s.header(0), Roles: s.member.Accounts().Roles()}, nil
}

// RoleDelete implements etcdserverpb.AuthServer.
func (s *Auth) RoleDelete(ctx context.Context, r *etcdserverpb.AuthRoleDeleteRequest) (*etcdserverpb.AuthRoleDeleteResponse, error) {
	h, err := s.change(ctx, apply.CommandAuthRoleDelete, &etcdserverpb.AuthRoleDeleteRequest{Role: r.GetRole()})
	if err != nil {
		return nil, err
	}
	return &etcdserverpb.AuthRoleDeleteResponse{Header: h}, nil
}

// RoleGrantPermission implements etcdserverpb.AuthServer.
func (s *Auth) RoleGrantPermission(ctx context.Context, r *etcdserverpb.AuthRoleGrantPermissionRequest) (*etcdserverpb.AuthRoleGrantPermissionResponse, error) {
	out := &etcdserverpb.AuthRoleGrantPermissionRequest{Name: r.GetName()}
	if p := r.GetPerm(); p != nil {
		out.Perm = &authpb.Permission{PermType: p.GetPermType(), Key: p.GetKey(), RangeEnd: p.GetRangeEnd()}
	}
	h, err := s.change(ctx, apply.CommandAuthRoleGrantPermission, out)
	if err != nil {
		return nil, err
	}
	return &etcdserverpb.AuthRoleGrantPermissionResponse{Header: h}, nil
}

// RoleRevokePermission implements etcdserverpb.AuthServer.
func (s *Auth) RoleRevokePermission(ctx context.Context, r *etcdserverpb.AuthRoleRevokePermissionRequest) (*etcdserverpb.AuthRoleRevokePermissionResponse, error) {
	h, err := s.change(ctx, apply.CommandAuthRoleRevokePermission, &etcdserverpb.AuthRoleRevokePermissionRequest{
		Role: r.GetRole(), Key: r.GetKey(), RangeEnd: r.GetRangeEnd(),
	})
	if err != nil {
		return nil, err
	}
	return &etcdserverpb.AuthRoleRevokePermissionResponse{Header: h}, nil
}
