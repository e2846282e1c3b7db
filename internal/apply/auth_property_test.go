package apply

import (
	"fmt"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// header is that of an entry of some user, by some auth revision.
func (d drawn) header(id uint64) Header {
	return Header{
		ID: id, Username: rapid.SampledFrom([]string{"", "root", "root", "u"}).Draw(d.T, "by"),
		AuthRevision: rapid.SampledFrom([]uint64{0, 3, 7, 99, 99}).Draw(d.T, "auth revision"),
	}
}

// account is a command about users and roles. They are few, so that they meet.
func (d drawn) account() (Command, proto.Message) {
	user := rapid.SampledFrom([]string{"root", "u"}).Draw(d.T, "user")
	role := rapid.SampledFrom([]string{"root", "r"}).Draw(d.T, "role")
	switch rapid.IntRange(0, 12).Draw(d.T, "account") {
	case 0, 1:
		return CommandAuthUserAdd, &etcdserverpb.AuthUserAddRequest{Name: user, HashedPassword: "aGFzaA=="}
	case 2, 3:
		return CommandAuthUserGrantRole, &etcdserverpb.AuthUserGrantRoleRequest{User: user, Role: role}
	case 4:
		return CommandAuthRoleAdd, &etcdserverpb.AuthRoleAddRequest{Name: role}
	case 5:
		return CommandAuthRoleGrantPermission, &etcdserverpb.AuthRoleGrantPermissionRequest{Name: role, Perm: &authpb.Permission{
			PermType: authpb.READWRITE, Key: d.key(), RangeEnd: d.end(),
		}}
	case 6:
		return CommandAuthRoleRevokePermission, &etcdserverpb.AuthRoleRevokePermissionRequest{Role: role, Key: d.key(), RangeEnd: d.end()}
	case 7:
		return CommandAuthUserRevokeRole, &etcdserverpb.AuthUserRevokeRoleRequest{Name: user, Role: role}
	case 8:
		return CommandAuthUserChangePassword, &etcdserverpb.AuthUserChangePasswordRequest{Name: user, HashedPassword: "eA=="}
	case 9:
		return CommandAuthUserDelete, &etcdserverpb.AuthUserDeleteRequest{Name: user}
	case 10:
		return CommandAuthenticate, &etcdserverpb.InternalAuthenticateRequest{Name: user, SimpleToken: "abc"}
	case 11:
		return CommandAuthDisable, &etcdserverpb.AuthDisableRequest{}
	default:
		return CommandAuthEnable, &etcdserverpb.AuthEnableRequest{}
	}
}

// begin is nothing, or what switches authentication on.
func (d drawn) begin() (out []*raftpb.Entry) {
	if d.one(2, "without authentication") {
		return nil
	}
	for i, x := range []struct {
		cmd Command
		m   proto.Message
	}{
		{CommandAuthUserAdd, &etcdserverpb.AuthUserAddRequest{Name: "root"}},
		{CommandAuthUserGrantRole, &etcdserverpb.AuthUserGrantRoleRequest{User: "root", Role: "root"}},
		{CommandAuthUserAdd, &etcdserverpb.AuthUserAddRequest{Name: "u"}},
		{CommandAuthRoleAdd, &etcdserverpb.AuthRoleAddRequest{Name: "r"}},
		{CommandAuthUserGrantRole, &etcdserverpb.AuthUserGrantRoleRequest{User: "u", Role: "r"}},
		{CommandAuthRoleGrantPermission, &etcdserverpb.AuthRoleGrantPermissionRequest{Name: "r", Perm: &authpb.Permission{
			PermType: authpb.READWRITE, Key: []byte("a"), RangeEnd: []byte("c"),
		}}},
		{CommandAuthEnable, &etcdserverpb.AuthEnableRequest{}},
	} {
		raw, err := proto.Marshal(x.m)
		if err != nil {
			d.Fatal(err)
		}
		out = append(out, entryAt(uint64(i+1), Encode(Header{ID: uint64(i + 1)}, x.cmd, raw)))
	}
	return out
}

// accountText says which users and roles there are.
func (l *lab) accountText() string {
	enabled, revision := l.users.Status()
	s := fmt.Sprint(enabled, revision)
	for _, name := range l.users.Users() {
		u, _ := l.users.User(name)
		s += fmt.Sprintf(" %s %q %q", name, u.Hash, u.Roles)
	}
	for _, name := range l.users.Roles() {
		r, _ := l.users.Role(name)
		s += fmt.Sprintf(" %s %q", name, r.Permissions)
	}
	return s
}
