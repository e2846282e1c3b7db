package etcdfile

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ashlar-kv/ashlar/internal/cluster"
)

// v2Node is a node of etcd's v2 store in a snapshot of it. Directories have children, and an empty map when they have none.
type v2Node struct {
	Path                        string
	CreatedIndex, ModifiedIndex uint64
	ExpireTime                  time.Time // zero: never
	Value                       string
	Children                    map[string]*v2Node
}

// v2Store is the snapshot.
type v2Store struct {
	Root           *v2Node
	CurrentIndex   uint64
	CurrentVersion int
}

// v2Version is the version of the store's format.
const v2Version = 2

// V2Store returns the membership as a snapshot of etcd's v2 store, which members of etcd before 3.7 want beside the database
// file of a snapshot.
func (c *Content) V2Store() ([]byte, error) {
	s := v2Store{CurrentVersion: v2Version}
	root := &v2Node{Path: "/", Children: map[string]*v2Node{}}
	s.Root = root
	dir(root, "1")
	zero := dir(root, "0")
	members := dir(zero, "members")
	err := c.small(func(bucket string, key, value []byte) error {
		switch bucket {
		case bucketMembers:
			return v2Member(dir(members, string(key)), value)
		case bucketRemoved:
			removed := zero.Children["removed_members"]
			if removed == nil {
				removed = dir(zero, "removed_members")
			}
			leaf(removed, string(key), removedValue)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("the members for etcd: %w", err)
	}
	if c.ClusterVersion != "" {
		leaf(zero, "version", c.ClusterVersion)
	}
	s.CurrentIndex = zero.number(0)
	return json.Marshal(s)
}

// v2Member writes the record of a member into its directory.
func v2Member(d *v2Node, record []byte) error {
	var m cluster.Member
	if err := json.Unmarshal(record, &m); err != nil {
		return err
	}
	raft, err := json.Marshal(struct {
		PeerURLs  []string `json:"peerURLs"`
		IsLearner bool     `json:"isLearner,omitempty"`
	}{m.PeerURLs, m.IsLearner})
	if err != nil {
		return err
	}
	leaf(d, "raftAttributes", string(raft))
	if m.Name == "" {
		return nil // it has not started yet
	}
	attributes, err := json.Marshal(struct {
		Name       string   `json:"name,omitempty"`
		ClientURLs []string `json:"clientURLs,omitempty"`
	}{m.Name, m.ClientURLs})
	leaf(d, "attributes", string(attributes))
	return err
}

func dir(parent *v2Node, name string) *v2Node {
	n := &v2Node{Path: join(parent, name), Children: map[string]*v2Node{}}
	parent.Children[name] = n
	return n
}

func leaf(parent *v2Node, name, value string) {
	parent.Children[name] = &v2Node{Path: join(parent, name), Value: value}
}

func join(parent *v2Node, name string) string {
	if parent.Path == "/" {
		return "/" + name
	}
	return parent.Path + "/" + name
}

// number gives each node an index of its own, in order of the names, as if they had been written so, and returns the last.
func (n *v2Node) number(at uint64) uint64 {
	for _, name := range slices.Sorted(maps.Keys(n.Children)) {
		at++
		child := n.Children[name]
		child.CreatedIndex, child.ModifiedIndex = at, at
		at = child.number(at)
	}
	return at
}
