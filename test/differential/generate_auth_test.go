package differential

import (
	"encoding/base64"
	"encoding/json"
	"fmt"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func (g *generator) user() string { return pick(g.Rand, "root", "root", "u1", "u2", "u3") }

// asker is a user that asks for something: root less often, since it may do all.
func (g *generator) asker() string { return pick(g.Rand, "root", "u1", "u1", "u2", "u2", "u3") }

func (g *generator) role() string { return pick(g.Rand, "root", "r1", "r2", "r3") }

// header says who asks: mostly somebody whom the newest auth revision knows.
func (g *generator) header() *etcdserverpb.RequestHeader {
	if !g.e.auth.IsAuthEnabled() && !g.one(10) {
		return &etcdserverpb.RequestHeader{}
	}
	h := &etcdserverpb.RequestHeader{Username: g.asker(), AuthRevision: g.e.auth.Revision()}
	switch g.IntN(20) {
	case 0:
		h.AuthRevision--
	case 1:
		h.AuthRevision = 0
	case 2:
		h.AuthRevision++
	case 3:
		h.Username = pick(g.Rand, "", "nobody")
	case 4:
		return &etcdserverpb.RequestHeader{}
	}
	return h
}

// hash is not one that bcrypt made: what is in the log is never checked.
func (g *generator) hash() string {
	if g.one(25) {
		return pick(g.Rand, "%", "", "YQ")
	}
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "hash %d", g.IntN(9)))
}

// authCommand switches authentication on rarely before there is a root, and off soon.
func (g *generator) authCommand(c *etcdserverpb.InternalRaftRequest) {
	if g.e.auth.IsAuthEnabled() && !g.one(4) {
		c.Header.Username = "root"
	}
	if g.one(12) {
		if g.e.auth.IsAuthEnabled() && g.one(3) {
			c.AuthDisable = &etcdserverpb.AuthDisableRequest{}
		} else {
			c.AuthEnable = &etcdserverpb.AuthEnableRequest{}
		}
		return
	}
	switch g.IntN(8) {
	case 0:
		c.Authenticate = &etcdserverpb.InternalAuthenticateRequest{Name: pick(g.Rand, g.user(), "nobody"), SimpleToken: pick(g.Rand, "abc", "def")}
	case 1:
		g.authRead(c)
	case 2, 3:
		g.userCommand(c)
	case 4:
		c.AuthUserGrantRole = &etcdserverpb.AuthUserGrantRoleRequest{User: g.user(), Role: g.role()}
	case 5:
		c.AuthUserRevokeRole = &etcdserverpb.AuthUserRevokeRoleRequest{Name: g.user(), Role: g.role()}
	default:
		g.roleCommand(c)
	}
}

func (g *generator) userCommand(c *etcdserverpb.InternalRaftRequest) {
	switch g.IntN(6) {
	case 0, 1, 2:
		c.AuthUserAdd = &etcdserverpb.AuthUserAddRequest{Name: pick(g.Rand, g.user(), g.user(), ""), HashedPassword: g.hash()}
		switch g.IntN(5) {
		case 0:
			c.AuthUserAdd.Options = &authpb.UserAddOptions{NoPassword: true}
		case 1:
			c.AuthUserAdd.Options = &authpb.UserAddOptions{}
		case 2:
			if g.one(4) {
				c.AuthUserAdd.Password = "plain"
			}
		}
	case 3:
		c.AuthUserDelete = &etcdserverpb.AuthUserDeleteRequest{Name: g.user()}
	default:
		c.AuthUserChangePassword = &etcdserverpb.AuthUserChangePasswordRequest{Name: g.user(), HashedPassword: g.hash()}
	}
}

func (g *generator) roleCommand(c *etcdserverpb.InternalRaftRequest) {
	switch g.IntN(8) {
	case 0, 1:
		c.AuthRoleAdd = &etcdserverpb.AuthRoleAddRequest{Name: pick(g.Rand, g.role(), g.role(), "")}
	case 2:
		c.AuthRoleDelete = &etcdserverpb.AuthRoleDeleteRequest{Role: g.role()}
	case 3:
		c.AuthRoleRevokePermission = &etcdserverpb.AuthRoleRevokePermissionRequest{Role: g.role(), Key: g.anyKey(), RangeEnd: g.end()}
		if role := g.e.authBE.GetRole(c.AuthRoleRevokePermission.Role); role != nil && len(role.KeyPermission) > 0 && !g.one(4) {
			p := pick(g.Rand, role.KeyPermission...)
			c.AuthRoleRevokePermission.Key, c.AuthRoleRevokePermission.RangeEnd = p.Key, p.RangeEnd
		}
	default:
		c.AuthRoleGrantPermission = &etcdserverpb.AuthRoleGrantPermissionRequest{Name: g.role(), Perm: &authpb.Permission{
			PermType: authpb.Permission_Type(g.IntN(3)), Key: g.anyKey(), RangeEnd: g.end(),
		}}
		if g.one(20) {
			c.AuthRoleGrantPermission.Perm.PermType = 5
		}
		if g.one(40) {
			c.AuthRoleGrantPermission.Perm = nil
		}
	}
}

func (g *generator) authRead(c *etcdserverpb.InternalRaftRequest) {
	switch g.IntN(5) {
	case 0:
		c.AuthStatus = &etcdserverpb.AuthStatusRequest{}
	case 1:
		c.AuthUserGet = &etcdserverpb.AuthUserGetRequest{Name: g.user()}
	case 2:
		c.AuthUserList = &etcdserverpb.AuthUserListRequest{}
	case 3:
		c.AuthRoleGet = &etcdserverpb.AuthRoleGetRequest{Role: g.role()}
	default:
		c.AuthRoleList = &etcdserverpb.AuthRoleListRequest{}
	}
}

func (g *generator) member() uint64 { return pick(g.Rand, uint64(memberSelf), 1, 2, 3, 4, 5) }

func (g *generator) peers() []string {
	return pick(g.Rand, []string{"http://p:1"}, []string{"http://p:2"}, []string{"http://p:3", "http://p:4"}, []string{"http://p:4"}, nil)
}

// confChange is one as members propose them, or rarely one whose parts do not fit.
func (g *generator) confChange() *raftpb.ConfChange {
	cc := &raftpb.ConfChange{NodeId: proto.Uint64(g.member())}
	x := membership.ConfigChangeContext{Member: membership.Member{ID: types.ID(cc.GetNodeId())}}
	x.PeerURLs = g.peers()
	switch g.IntN(6) {
	case 0, 1:
		cc.Type = raftpb.ConfChangeAddNode.Enum()
	case 2:
		cc.Type, x.IsLearner = raftpb.ConfChangeAddLearnerNode.Enum(), true
	case 3:
		cc.Type, x.IsPromote = raftpb.ConfChangeAddNode.Enum(), true
	case 4:
		cc.Type = raftpb.ConfChangeUpdateNode.Enum()
	default:
		cc.Type = raftpb.ConfChangeRemoveNode.Enum()
		return cc
	}
	if g.one(15) {
		x.IsLearner = !x.IsLearner
	}
	cc.Context = contextOf(x)
	return cc
}

func contextOf(x any) []byte {
	b, err := json.Marshal(x)
	if err != nil {
		panic(fmt.Sprintf("encode the context of a configuration change: %v", err))
	}
	return b
}

// users are steps that make a root, two users with a role each, and mostly switch authentication on.
func (g *generator) users() (out []step) {
	add := func(c *etcdserverpb.InternalRaftRequest) { out = append(out, step{command: c}) }
	for _, name := range []string{"root", "u1", "u2"} {
		add(&etcdserverpb.InternalRaftRequest{AuthUserAdd: &etcdserverpb.AuthUserAddRequest{Name: name, HashedPassword: g.hash()}})
	}
	for _, x := range [][2]string{{"root", "root"}, {"u1", "r1"}, {"u2", "r2"}} {
		add(&etcdserverpb.InternalRaftRequest{AuthRoleAdd: &etcdserverpb.AuthRoleAddRequest{Name: x[1]}})
		add(&etcdserverpb.InternalRaftRequest{AuthUserGrantRole: &etcdserverpb.AuthUserGrantRoleRequest{User: x[0], Role: x[1]}})
	}
	for range 2 + g.IntN(30) {
		add(&etcdserverpb.InternalRaftRequest{AuthRoleGrantPermission: &etcdserverpb.AuthRoleGrantPermissionRequest{
			Name: pick(g.Rand, "r1", "r2"),
			Perm: &authpb.Permission{PermType: authpb.Permission_Type(g.IntN(3)), Key: g.key(), RangeEnd: g.end()},
		}})
	}
	if !g.one(4) {
		add(&etcdserverpb.InternalRaftRequest{AuthEnable: &etcdserverpb.AuthEnableRequest{}})
	}
	return out
}

// founding are the first entries of every log: its first member, and the version.
func founding() []step {
	x := membership.ConfigChangeContext{Member: membership.Member{ID: memberSelf}}
	x.PeerURLs = []string{"http://p:0"}
	return []step{{conf: &raftpb.ConfChange{
		Type: raftpb.ConfChangeAddNode.Enum(), NodeId: proto.Uint64(memberSelf), Context: contextOf(x),
	}}}
}
