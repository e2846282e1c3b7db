package differential

import (
	"bytes"
	"strings"

	"github.com/coreos/go-semver/semver"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Why a step is not done. Those that begin with "etcd panics" end every member of etcd that has the entry in its log.
const (
	skipKeeps       = "etcd panics: a transaction deletes a key, then keeps its value or its lease"
	skipNoMember    = "etcd panics: attributes of a member that never was"
	skipVersion     = "etcd panics: a cluster version that is none, or above its own"
	skipLastVoter   = "etcd panics: the last voter removed (in raft)"
	skipBackwards   = "etcd decides by the shape of a tree: a range that ends before it begins, while users are checked"
	skipReborn      = "etcd loses the key: a compaction to a revision that deletes a key and puts it again"
	skipSort        = "never proposed: an unknown sort order or target"
	skipNoKey       = "never proposed: keys without a first one"
	skipNoOperation = "never proposed: an operation of a transaction that is none"
	skipPassword    = "etcd members differ: a password without its hash, as before 3.5"
)

// skipped returns why a step is not done, "" when it is.
func (p *pair) skipped(s step) string {
	if c := s.conf; c != nil {
		return p.skippedConf(c)
	}
	if s.read != nil {
		return skippedRange(s.read)
	}
	if s.readTxn != nil {
		return skippedTxn(s.readTxn)
	}
	c := s.command
	if p.e.auth.IsAuthEnabled() && backwards(c) {
		return skipBackwards
	}
	switch {
	case c.Put != nil && len(c.Put.Key) == 0:
		return skipNoKey
	case c.Compaction != nil && p.e.putsAgain(c.Compaction.Revision):
		return skipReborn
	case c.DeleteRange != nil && len(c.DeleteRange.Key) == 0:
		return skipNoKey
	case c.Range != nil:
		return skippedRange(c.Range)
	case c.Txn != nil:
		return skippedTxn(c.Txn)
	case c.ClusterMemberAttrSet != nil:
		id := types.ID(c.ClusterMemberAttrSet.Member_ID)
		if p.e.members.Member(id) == nil && !p.e.members.IsIDRemoved(id) {
			return skipNoMember
		}
	case c.ClusterVersionSet != nil:
		v, err := semver.NewVersion(c.ClusterVersionSet.Ver)
		top := semver.New(version.Cluster(version.Version) + ".0")
		if err != nil || top.LessThan(semver.Version{Major: v.Major, Minor: v.Minor}) {
			return skipVersion
		}
	case c.AuthUserAdd != nil && c.AuthUserAdd.HashedPassword == "" && c.AuthUserAdd.Password != "",
		c.AuthUserChangePassword != nil && c.AuthUserChangePassword.HashedPassword == "" && c.AuthUserChangePassword.Password != "":
		return skipPassword
	}
	return ""
}

// backwards tells whether a command, or an operation or comparison in it, has a range that ends before it begins.
func backwards(c *etcdserverpb.InternalRaftRequest) bool {
	if d := c.DeleteRange; d != nil {
		return endsBefore(d.Key, d.RangeEnd)
	}
	return c.Txn != nil && backwardsTxn(c.Txn)
}

func backwardsTxn(t *etcdserverpb.TxnRequest) bool {
	for _, c := range t.Compare {
		if endsBefore(c.Key, c.RangeEnd) {
			return true
		}
	}
	for _, branch := range [][]*etcdserverpb.RequestOp{t.Success, t.Failure} {
		for _, op := range branch {
			r, d, n := op.GetRequestRange(), op.GetRequestDeleteRange(), op.GetRequestTxn()
			if r != nil && endsBefore(r.Key, r.RangeEnd) || d != nil && endsBefore(d.Key, d.RangeEnd) || n != nil && backwardsTxn(n) {
				return true
			}
		}
	}
	return false
}

func endsBefore(key, end []byte) bool {
	return len(end) > 0 && !(len(end) == 1 && end[0] == 0) && bytes.Compare(end, key) < 0
}

func (p *pair) skippedConf(c *raftpb.ConfChange) string {
	if c.GetType() == raftpb.ConfChangeRemoveNode {
		if voters := p.e.members.VotingMemberIDs(); len(voters) == 1 && uint64(voters[0]) == c.GetNodeId() {
			return skipLastVoter
		}
	}
	return ""
}

func skippedRange(r *etcdserverpb.RangeRequest) string {
	if len(r.Key) == 0 {
		return skipNoKey
	}
	_, target := etcdserverpb.RangeRequest_SortTarget_name[int32(r.SortTarget)]
	if _, order := etcdserverpb.RangeRequest_SortOrder_name[int32(r.SortOrder)]; !order || !target {
		return skipSort
	}
	return ""
}

// written are the operations of a transaction that matter for skipping it.
type written struct {
	deletes []*etcdserverpb.DeleteRangeRequest
	keeps   [][]byte
}

func skippedTxn(t *etcdserverpb.TxnRequest) string {
	var w written
	if why := w.collect(t); why != "" {
		return why
	}
	if w.deletesOne(w.keeps) {
		return skipKeeps
	}
	return ""
}

// deletesOne tells whether one of the deletions is of one of the keys.
func (w *written) deletesOne(keys [][]byte) bool {
	for _, d := range w.deletes {
		for _, key := range keys {
			if covers(d, key) {
				return true
			}
		}
	}
	return false
}

func (w *written) collect(t *etcdserverpb.TxnRequest) string {
	for _, c := range t.Compare {
		if len(c.Key) == 0 {
			return skipNoKey
		}
	}
	for _, branch := range [][]*etcdserverpb.RequestOp{t.Success, t.Failure} {
		for _, op := range branch {
			why := ""
			switch r := op.Request.(type) {
			case *etcdserverpb.RequestOp_RequestRange:
				why = skippedRange(r.RequestRange)
			case *etcdserverpb.RequestOp_RequestPut:
				if len(r.RequestPut.Key) == 0 {
					why = skipNoKey
				}
				if r.RequestPut.IgnoreValue || r.RequestPut.IgnoreLease {
					w.keeps = append(w.keeps, r.RequestPut.Key)
				}
			case *etcdserverpb.RequestOp_RequestDeleteRange:
				if len(r.RequestDeleteRange.Key) == 0 {
					why = skipNoKey
				}
				w.deletes = append(w.deletes, r.RequestDeleteRange)
			case *etcdserverpb.RequestOp_RequestTxn:
				why = w.collect(r.RequestTxn)
			default:
				why = skipNoOperation
			}
			if why != "" {
				return why
			}
		}
	}
	return ""
}

func covers(d *etcdserverpb.DeleteRangeRequest, key []byte) bool {
	switch {
	case len(d.RangeEnd) == 0:
		return bytes.Equal(d.Key, key)
	case len(d.RangeEnd) == 1 && d.RangeEnd[0] == 0:
		return bytes.Compare(key, d.Key) >= 0
	}
	return bytes.Compare(key, d.Key) >= 0 && bytes.Compare(key, d.RangeEnd) < 0
}

// eachCommand returns a function for protoreflect's Range that calls f with the names of the commands set.
func eachCommand(f func(field string)) func(protoreflect.FieldDescriptor, protoreflect.Value) bool {
	return func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if name := string(fd.Name()); name != "header" && !strings.EqualFold(name, "id") {
			f(name)
		}
		return true
	}
}
