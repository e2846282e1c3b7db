package tidy

import (
	"slices"
	"strings"
)

const module = "github.com/ashlar-kv/ashlar"

// room is one package and what it may import of ours, besides leaves and whatever those rooms may import.
type room struct {
	name  string
	below []string
	why   string // why nothing else: printed when an import is refused
}

// leaves may be imported from everywhere and import nothing of ours.
var leaves = []string{"internal/invariant", "internal/clock", "internal/version", "internal/logging", "internal/authority", "internal/measure", "internal/wire",
	"internal/progress", "internal/accept"}

// state are the siblings that apply joins.
var state = []string{"internal/mvcc", "internal/lease", "internal/auth", "internal/cluster"}

const (
	whySibling = "the parts of the state are siblings that only apply joins; they know no log, no network and no clock"
	whyTool    = "tools are clients: they share formats with the server, not its rooms"
)

var rooms = []room{
	{"internal/pacing", nil, "pacing knows who asks and how long to rest, not what the work is"},
	{"internal/storage", []string{"internal/pacing"}, "storage knows bytes: everything is built on it"},
	{"internal/storage/pebblemem", []string{"internal/storage"}, "it knows Pebble's memory, and nothing of what is stored"},
	{"internal/mvcc", []string{"internal/storage"}, whySibling},
	{"internal/lease", []string{"internal/storage"}, whySibling},
	{"internal/auth", []string{"internal/storage"}, whySibling},
	{"internal/cluster", []string{"internal/storage"}, whySibling},
	{"internal/raftlog", []string{"internal/storage"}, "the log knows entries as bytes, not what they mean"},
	{"internal/apply", state, "apply turns an entry into a change of the state; who proposed it is not its business"},
	{"internal/snapshot", state, "a snapshot is a state as a stream; who sends it is not its business"},
	{"internal/watch", state, "the hub is told of events; it knows no connections"},
	{"internal/consensus", []string{"internal/raftlog"}, "consensus orders bytes; it knows no key-value"},
	{"internal/peer", []string{"internal/cluster", "internal/snapshot"}, "transport carries messages between members and decides nothing"},
	{"internal/etcdfile", state, "etcd's files are another form of the state; who wants them is not its business"},
	{"internal/takeover", []string{"internal/apply", "internal/raftlog", "internal/etcdfile"}, "a member of etcd is made one of ours before there is a member to run"},
	{"internal/member", []string{"internal/takeover", "internal/apply", "internal/snapshot", "internal/watch", "internal/consensus", "internal/peer", "internal/etcdfile"},
		"a member is one level below the services: it answers them and does not know them"},
	{"internal/lockpb", nil, "messages are plain data"},
	{"internal/audit", nil, "the audit log takes records; what a request is, it is told"},
	{"internal/h2", nil, "the transport carries calls; what they mean is not its business"},
	{"internal/rpc", []string{"internal/h2", "internal/member", "internal/lockpb", "internal/audit"}, "services translate; they do not know how they are served"},
	{"internal/web", []string{"internal/rpc"}, "HTTP stands on the services"},
	{"internal/metrics", []string{"internal/rpc"}, "metrics are read off the rooms that count; who serves them is not their business"},
	{"internal/tracing", nil, "tracing is told what to send; whose requests they are is not its business"},
	{"internal/config", nil, "a configuration is plain data: whoever uses it imports it, it imports nobody"},
	{"internal/tlsconf", nil, "certificates are plain data"},
	{"internal/discovery", []string{"internal/config"}, "discovery runs before there is a member"},
	{"internal/server", []string{"internal/web", "internal/metrics", "internal/tracing", "internal/config", "internal/tlsconf", "internal/discovery"}, "server assembles a member; only programs stand above it"},
	{"internal/proxy", []string{"internal/web", "internal/tlsconf", "internal/discovery"}, "a proxy is a client and a server of the API, never a member"},
	{"internal/restore", []string{"internal/etcdfile", "internal/raftlog"}, "a restored member is files; nobody serves them yet"},
	{"internal/offline", []string{"internal/etcdfile", "internal/raftlog"}, "a directory at rest is files; nobody serves them"},
	{"internal/backup", []string{"internal/snapshot", "internal/etcdfile"}, whyTool},
	{"internal/kube", nil, "values of Kubernetes are bytes that become text; who stored them is not its business"},
	{"internal/commands", nil, whyTool},
	{"internal/ctl", []string{"internal/commands", "internal/tlsconf", "internal/discovery", "internal/kube"}, whyTool},
	{"internal/util", []string{"internal/commands", "internal/etcdfile", "internal/snapshot", "internal/backup", "internal/restore", "internal/offline",
		"internal/config", "internal/tlsconf"}, whyTool},
	{"embed", []string{"internal/server"}, "embed is the public face of server"},
	{"embed/v3client", []string{"embed"}, "it is a name for what embed has"},
	{"cmd/ashlar", []string{"internal/server", "internal/storage/pebblemem", "internal/ctl", "internal/util", "internal/proxy", "embed"}, "a program picks what to run; nothing else"},
}

// free are packages that may import everything of ours: they exist to run whole members.
var free = []string{"internal/sim", "internal/tidy", "test"}

// allowed returns every package of ours that the room may import, and whether the room is in the table.
func allowed(name string) (map[string]bool, string, bool) {
	if slices.Contains(leaves, name) {
		return map[string]bool{}, "a leaf imports nothing of ours, so that everything may import it", true
	}
	i := slices.IndexFunc(rooms, func(r room) bool { return r.name == name })
	if i < 0 {
		return nil, "", false
	}
	out := map[string]bool{}
	for _, l := range leaves {
		out[l] = true
	}
	for _, b := range rooms[i].below {
		out[b] = true
		deeper, _, _ := allowed(b)
		for d := range deeper {
			out[d] = true
		}
	}
	return out, rooms[i].why, true
}

// isFree tells whether the package may import everything: sim, tidy, and test with all below it.
func isFree(name string) bool {
	return slices.ContainsFunc(free, func(f string) bool { return name == f || strings.HasPrefix(name, f+"/") })
}

// fence keeps packages of others out of rooms. The first fence whose prefix fits an import decides.
type fence struct {
	prefix string
	// rooms may import it; a nil list means nobody, "*" everybody.
	rooms []string
	// tests says that tests of any package may import it too.
	tests bool
	why   string
}

var (
	deterministic = []string{"internal/apply", "internal/mvcc", "internal/lease", "internal/auth", "internal/cluster"}
	aboveApply    = []string{"internal/lockpb", "internal/apply", "internal/watch", "internal/member", "internal/rpc", "internal/web", "internal/server",
		"internal/proxy", "internal/ctl", "internal/util", "internal/backup", "internal/discovery", "embed", "cmd/ashlar"}
	grpcRooms = []string{"internal/h2", "internal/lockpb", "internal/rpc", "internal/web", "internal/server", "internal/proxy", "internal/ctl", "internal/util", "internal/discovery", "internal/tracing", "embed"}
)

const pebble = "github.com/cockroachdb/pebble/v2"

var fences = []fence{
	{pebble + "/vfs/errorfs", nil, true, "injected errors are for tests"},
	{pebble + "/vfs", []string{"*"}, true, ""},
	{"github.com/cockroachdb/", []string{"internal/storage", "internal/storage/pebblemem"}, false, "storage is the only importer of Pebble, so that it can be replaced in one place"},
	{"go.etcd.io/raft/v3/raftpb", []string{"internal/consensus", "internal/peer", "internal/raftlog", "internal/apply",
		"internal/cluster", "internal/snapshot", "internal/member", "internal/etcdfile", "internal/takeover"}, true, "raft's messages go where entries are stored, sent and applied, no further"},
	{"go.etcd.io/raft", []string{"internal/consensus", "internal/peer"}, false, "only consensus drives raft; transport reports to it"},
	{"go.etcd.io/bbolt", []string{"internal/etcdfile"}, true, "bbolt is etcd's file format, nothing that we store in"},
	{"go.etcd.io/etcd/server", nil, false, "etcd's server is what we replace"},
	{"go.etcd.io/etcd/etcdctl", nil, false, "etcdctl is what we replace"},
	{"go.etcd.io/etcd/etcdutl", nil, false, "etcdutl is what we replace"},
	{"go.etcd.io/etcd/client/v3", []string{"internal/ctl", "internal/util", "internal/proxy", "internal/discovery", "embed", "embed/v3client"}, true, "members do not speak to each other as clients"},
	{"go.etcd.io/etcd/api/v3/etcdserverpb", aboveApply, false, "the command in an entry goes no deeper than apply"},
	{"go.etcd.io/etcd/api/v3/v3rpc", grpcRooms, true, "one table in rpc turns errors into statuses"},
	{"google.golang.org/grpc", grpcRooms, true, "gRPC ends at the services"},
}

// impure are packages that the deterministic rooms may not import: the same log must give the same bytes.
var impure = []string{"crypto/rand", "math/rand", "math/rand/v2", "net", "net/http", "os", "os/exec", "syscall"}
