package differential

import (
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

var recordingsFlag = flag.String("recordings", "../../../shared/oracle/recordings", "the directory with recorded answers of etcd")

// Every request of the recordings of etcd that becomes an entry, or reads keys, is decided alike.
func TestRecordedLogs(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(*recordingsFlag, "*", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skipf("the recorded logs are left out: no recordings in %s", *recordingsFlag)
	}
	total := &tally{}
	for _, name := range files {
		recordedLog(t, name, total)
	}
	fmt.Printf("recorded: %s", total)
}

// recording is one file: requests in order.
type recording struct {
	Steps []recorded `json:"steps"`
}

type recorded struct {
	N       int               `json:"n"`
	Op      string            `json:"op"`
	Req     json.RawMessage   `json:"req"`
	Token   string            `json:"token"`
	Headers map[string]string `json:"headers"`
	Save    map[string]string `json:"save"`
	Want    json.RawMessage   `json:"want"`
}

// refusal is the text that etcd refused a request with, "" when it did not.
func (x recorded) refusal() string {
	var want struct {
		Error *struct{ Message string } `json:"error"`
		JSON  struct{ Message string }  `json:"json"`
	}
	if json.Unmarshal(x.Want, &want) != nil {
		return "" // what streams answer is a list
	}
	if want.Error != nil {
		return want.Error.Message
	}
	return want.JSON.Message
}

// replayer turns the requests of one file into steps.
type replayer struct {
	p      *pair
	saved  map[string]string // numbers and the names of users, by variable
	newest string            // what the last step could save
	lease  int64             // the last id chosen
	member uint64            // the last id chosen
}

func recordedLog(t *testing.T, name string, total *tally) {
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var file recording
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	p := newPair(t, &tally{logs: 1})
	defer p.close()
	r := &replayer{p: p, saved: map[string]string{}, lease: 1 << 40, member: 100}
	steps := founding()
	if err := p.do(steps[0]); err != nil {
		t.Fatal(err)
	}
	for _, x := range file.Steps {
		s, why := r.step(x)
		for variable := range x.Save {
			r.saved["$"+variable] = r.newest
		}
		if why != "" {
			p.tally.skip(why)
			continue
		}
		s.settle = true
		steps = append(steps, s)
		if err := p.do(s); err != nil {
			t.Errorf("%s, step %d", name, x.N)
			explain(t, steps, err)
			break
		}
	}
	total.add(p.tally)
}

// Why a recorded step is none here.
const (
	notAnEntry  = "recorded, but neither an entry nor a read of keys"
	notReadable = "recorded, but not proposed: a request that cannot be read"
	notProposed = "recorded, but not proposed: refused by whoever looks at passwords, addresses or versions"
)

// paths are the gateway's names for calls.
var paths = map[string]string{
	"kv/range": "KV/Range", "kv/put": "KV/Put", "kv/deleterange": "KV/DeleteRange", "kv/txn": "KV/Txn", "kv/compaction": "KV/Compact",
	"lease/grant": "Lease/LeaseGrant", "lease/revoke": "Lease/LeaseRevoke", "kv/lease/revoke": "Lease/LeaseRevoke",
	"auth/enable": "Auth/AuthEnable", "auth/disable": "Auth/AuthDisable", "auth/status": "Auth/AuthStatus",
	"auth/authenticate": "Auth/Authenticate", "auth/user/add": "Auth/UserAdd", "auth/user/get": "Auth/UserGet",
	"auth/user/list": "Auth/UserList", "auth/user/delete": "Auth/UserDelete", "auth/user/changepw": "Auth/UserChangePassword",
	"auth/user/grant": "Auth/UserGrantRole", "auth/user/revoke": "Auth/UserRevokeRole", "auth/role/add": "Auth/RoleAdd",
	"auth/role/get": "Auth/RoleGet", "auth/role/list": "Auth/RoleList", "auth/role/delete": "Auth/RoleDelete",
	"auth/role/grant": "Auth/RoleGrantPermission", "auth/role/revoke": "Auth/RoleRevokePermission",
	"cluster/member/add": "Cluster/MemberAdd", "cluster/member/remove": "Cluster/MemberRemove",
	"cluster/member/update": "Cluster/MemberUpdate", "cluster/member/promote": "Cluster/MemberPromote",
	"cluster/member/list": "Cluster/MemberList", "maintenance/alarm": "Maintenance/Alarm", "maintenance/downgrade": "Maintenance/Downgrade",
}

// commands are the calls whose request is the command itself.
var commands = map[string]func(c *etcdserverpb.InternalRaftRequest) proto.Message{
	"KV/Put":                    func(c *etcdserverpb.InternalRaftRequest) proto.Message { return set(&c.Put) },
	"KV/DeleteRange":            func(c *etcdserverpb.InternalRaftRequest) proto.Message { return set(&c.DeleteRange) },
	"KV/Txn":                    func(c *etcdserverpb.InternalRaftRequest) proto.Message { return set(&c.Txn) },
	"KV/Compact":                func(c *etcdserverpb.InternalRaftRequest) proto.Message { return set(&c.Compaction) },
	"Lease/LeaseGrant":          func(c *etcdserverpb.InternalRaftRequest) proto.Message { return set(&c.LeaseGrant) },
	"Lease/LeaseRevoke":         func(c *etcdserverpb.InternalRaftRequest) proto.Message { return set(&c.LeaseRevoke) },
	"Maintenance/Alarm":         func(c *etcdserverpb.InternalRaftRequest) proto.Message { return set(&c.Alarm) },
	"Auth/AuthEnable":           func(c *etcdserverpb.InternalRaftRequest) proto.Message { return set(&c.AuthEnable) },
	"Auth/AuthDisable":          func(c *etcdserverpb.InternalRaftRequest) proto.Message { return set(&c.AuthDisable) },
	"Auth/AuthStatus":           func(c *etcdserverpb.InternalRaftRequest) proto.Message { return set(&c.AuthStatus) },
	"Auth/UserAdd":              func(c *etcdserverpb.InternalRaftRequest) proto.Message { return set(&c.AuthUserAdd) },
	"Auth/UserGet":              func(c *etcdserverpb.InternalRaftRequest) proto.Message { return set(&c.AuthUserGet) },
	"Auth/UserList":             func(c *etcdserverpb.InternalRaftRequest) proto.Message { return set(&c.AuthUserList) },
	"Auth/UserDelete":           func(c *etcdserverpb.InternalRaftRequest) proto.Message { return set(&c.AuthUserDelete) },
	"Auth/UserChangePassword":   func(c *etcdserverpb.InternalRaftRequest) proto.Message { return set(&c.AuthUserChangePassword) },
	"Auth/UserGrantRole":        func(c *etcdserverpb.InternalRaftRequest) proto.Message { return set(&c.AuthUserGrantRole) },
	"Auth/UserRevokeRole":       func(c *etcdserverpb.InternalRaftRequest) proto.Message { return set(&c.AuthUserRevokeRole) },
	"Auth/RoleAdd":              func(c *etcdserverpb.InternalRaftRequest) proto.Message { return set(&c.AuthRoleAdd) },
	"Auth/RoleGet":              func(c *etcdserverpb.InternalRaftRequest) proto.Message { return set(&c.AuthRoleGet) },
	"Auth/RoleList":             func(c *etcdserverpb.InternalRaftRequest) proto.Message { return set(&c.AuthRoleList) },
	"Auth/RoleDelete":           func(c *etcdserverpb.InternalRaftRequest) proto.Message { return set(&c.AuthRoleDelete) },
	"Auth/RoleGrantPermission":  func(c *etcdserverpb.InternalRaftRequest) proto.Message { return set(&c.AuthRoleGrantPermission) },
	"Auth/RoleRevokePermission": func(c *etcdserverpb.InternalRaftRequest) proto.Message { return set(&c.AuthRoleRevokePermission) },
}

// set puts an empty message into a field and returns it.
func set[T any](field **T) *T {
	*field = new(T)
	return *field
}

// step turns one request into a step, or says why it is none.
func (r *replayer) step(x recorded) (s step, why string) {
	op, gateway := x.Op, false
	if path, ok := strings.CutPrefix(op, "POST /v3/"); ok {
		op, gateway = paths[path], true
	}
	read := func(m proto.Message) (proto.Message, bool) {
		return m, decode(r.substituted(x.Req), m, gateway) == nil
	}
	c := &etcdserverpb.InternalRaftRequest{Header: r.header(x)}
	ok := true
	switch make := commands[op]; {
	case make != nil:
		_, ok = read(make(c))
		r.finish(c)
	case op == "KV/Range" || op == "KV/RangeStream":
		s.read = &etcdserverpb.RangeRequest{}
		_, ok = read(s.read)
		c = nil
	case op == "Auth/Authenticate":
		return r.authenticate(x, c, gateway)
	case op == "Maintenance/Downgrade":
		return r.downgrade(x, c, gateway)
	case strings.HasPrefix(op, "Cluster/Member"):
		if op == "Cluster/MemberList" {
			r.newest = fmt.Sprint(memberSelf)
			return s, notAnEntry
		}
		return r.membership(op, x, gateway)
	default:
		return s, notAnEntry
	}
	if !ok {
		return s, notReadable
	}
	s.command = c
	return s, ""
}

// substituted puts in what earlier steps saved.
func (r *replayer) substituted(raw json.RawMessage) json.RawMessage {
	text := string(raw)
	for variable, value := range r.saved {
		text = strings.ReplaceAll(text, `"`+variable+`"`, `"`+value+`"`)
	}
	return json.RawMessage(text)
}

// header is what the member that proposes knows of the client.
func (r *replayer) header(x recorded) *etcdserverpb.RequestHeader {
	token := x.Token
	for name, value := range x.Headers {
		if strings.EqualFold(name, "authorization") || strings.EqualFold(name, "grpc-metadata-token") {
			token = strings.TrimPrefix(value, "Bearer ")
		}
	}
	user, known := r.saved[token]
	if !known || !r.p.e.auth.IsAuthEnabled() {
		return &etcdserverpb.RequestHeader{}
	}
	return &etcdserverpb.RequestHeader{Username: user, AuthRevision: r.p.e.auth.Revision()}
}

// finish does what a member does before it proposes: it chooses ids and hashes passwords.
func (r *replayer) finish(c *etcdserverpb.InternalRaftRequest) {
	hashed := func(password string) string {
		return base64.StdEncoding.EncodeToString([]byte("hash of " + password))
	}
	if g := c.LeaseGrant; g != nil {
		if g.ID == 0 {
			r.lease++
			g.ID = r.lease
		}
		r.newest = fmt.Sprint(g.ID)
	}
	if u := c.AuthUserAdd; u != nil {
		if u.Options == nil {
			u.Options = &authpb.UserAddOptions{}
		}
		if !u.Options.NoPassword {
			u.HashedPassword = hashed(u.Password)
		}
		u.Password = ""
	}
	if u := c.AuthUserChangePassword; u != nil {
		u.HashedPassword, u.Password = hashed(u.Password), ""
	}
}

func (r *replayer) authenticate(x recorded, c *etcdserverpb.InternalRaftRequest, gateway bool) (s step, why string) {
	var m etcdserverpb.AuthenticateRequest
	if decode(x.Req, &m, gateway) != nil {
		return s, notReadable
	}
	if x.refusal() != "" {
		return s, notProposed
	}
	r.newest = m.Name
	c.Authenticate = &etcdserverpb.InternalAuthenticateRequest{Name: m.Name, SimpleToken: "token"}
	s.command = c
	return s, ""
}

func (r *replayer) downgrade(x recorded, c *etcdserverpb.InternalRaftRequest, gateway bool) (s step, why string) {
	var m etcdserverpb.DowngradeRequest
	if decode(x.Req, &m, gateway) != nil {
		return s, notReadable
	}
	if x.refusal() != "" || m.Action == etcdserverpb.DowngradeRequest_VALIDATE {
		return s, notProposed
	}
	c.DowngradeInfoSet = &membershippb.DowngradeInfoSetRequest{
		Enabled: m.Action == etcdserverpb.DowngradeRequest_ENABLE, Ver: m.Version,
	}
	s.command = c
	return s, ""
}

func (r *replayer) membership(op string, x recorded, gateway bool) (s step, why string) {
	var m etcdserverpb.MemberAddRequest
	var named etcdserverpb.MemberUpdateRequest
	target := proto.Message(&named)
	if op == "Cluster/MemberAdd" {
		target = &m
	}
	if decode(r.substituted(x.Req), target, gateway) != nil {
		return s, notReadable
	}
	if text := x.refusal(); strings.Contains(text, "URLs") || strings.Contains(text, "user name") {
		return s, notProposed
	}
	var change membership.ConfigChangeContext
	cc := &raftpb.ConfChange{}
	switch op {
	case "Cluster/MemberAdd":
		r.member++
		named.ID, r.newest = r.member, fmt.Sprint(r.member)
		change.PeerURLs, change.IsLearner = m.PeerURLs, m.IsLearner
		cc.Type = raftpb.ConfChangeAddNode.Enum()
		if m.IsLearner {
			cc.Type = raftpb.ConfChangeAddLearnerNode.Enum()
		}
	case "Cluster/MemberRemove":
		cc.Type = raftpb.ConfChangeRemoveNode.Enum()
	case "Cluster/MemberUpdate":
		cc.Type, change.PeerURLs = raftpb.ConfChangeUpdateNode.Enum(), named.PeerURLs
	default:
		cc.Type, change.IsPromote = raftpb.ConfChangeAddNode.Enum(), true
	}
	change.ID = types.ID(named.ID)
	cc.NodeId, cc.Context = proto.Uint64(named.ID), contextOf(change)
	s.conf = cc
	return s, ""
}
