package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// InitialCluster is a parsed --initial-cluster: the founding members' peer URLs
// by name.
type InitialCluster struct{ urls map[string][]string }

// ParseInitialCluster parses "name=url,name=url"; a name that occurs more than once
// has several URLs. The URLs themselves are not checked, but they are spelled as etcd does before it makes ids of them.
func ParseInitialCluster(s string) (InitialCluster, error) {
	ic := InitialCluster{urls: make(map[string][]string)}
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, addr, ok := strings.Cut(part, "=")
		u, err := url.Parse(strings.TrimSpace(addr))
		if !ok || addr == "" || err != nil {
			return InitialCluster{}, fmt.Errorf("--initial-cluster: %q is not NAME=URL", part)
		}
		ic.urls[name] = append(ic.urls[name], u.String())
	}
	return ic, nil
}

// Len returns how many members the cluster begins with.
func (ic InitialCluster) Len() int { return len(ic.urls) }

// Founding is the membership that a cluster begins with. It is immutable.
type Founding struct {
	members []Member // sorted by id
	id      ID
}

// Found computes the ids of a cluster's founding members. Every member that founds
// with the same arguments gets the same.
func Found(ic InitialCluster, token string) (*Founding, error) {
	f := &Founding{}
	ids := make([]ID, 0, len(ic.urls))
	for name, urls := range ic.urls {
		urls = slices.Sorted(slices.Values(urls))
		m := Member{ID: MemberID(urls, token, nil), PeerURLs: urls, Name: name}
		f.members = append(f.members, m)
		ids = append(ids, m.ID)
	}
	slices.SortFunc(f.members, func(a, b Member) int { return compareIDs(a.ID, b.ID) })
	for i := 1; i < len(f.members); i++ {
		if f.members[i].ID == f.members[i-1].ID {
			return nil, fmt.Errorf("members %q and %q have the same peer URLs", f.members[i-1].Name, f.members[i].Name)
		}
	}
	if len(ids) == 0 {
		return nil, errors.New("a cluster needs a member")
	}
	f.id = clusterID(ids)
	return f, nil
}

// ID returns the cluster's id.
func (f *Founding) ID() ID { return f.id }

// Members returns the members, sorted by id. They belong to the caller.
func (f *Founding) Members() []Member {
	all := make([]Member, len(f.members))
	for i, m := range f.members {
		all[i] = m.clone()
	}
	return all
}

// ByName returns the founding member of a name.
func (f *Founding) ByName(name string) (Member, bool) {
	for _, m := range f.members {
		if m.Name == name {
			return m, true
		}
	}
	return Member{}, false
}

// BootstrapEntries returns the entries that every founding member's log begins with:
// one ConfChangeAddNode a member, sorted by id, at term 1 from index 1 on, byte for
// byte as etcd writes them.
func (f *Founding) BootstrapEntries() []*raftpb.Entry {
	entries := make([]*raftpb.Entry, len(f.members))
	for i, m := range f.members {
		// Neither can fail: both are plain data.
		context, _ := json.Marshal(m)
		data, _ := proto.Marshal(&raftpb.ConfChange{
			Type: raftpb.ConfChangeAddNode.Enum(), NodeId: proto.Uint64(uint64(m.ID)), Context: context,
		})
		entries[i] = &raftpb.Entry{
			Type: raftpb.EntryConfChange.Enum(), Term: proto.Uint64(1),
			Index: proto.Uint64(uint64(i + 1)), Data: data,
		}
	}
	return entries
}

func compareIDs(a, b ID) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}
