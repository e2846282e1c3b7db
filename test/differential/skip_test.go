package differential

import (
	"bytes"

	"github.com/coreos/go-semver/semver"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
)

// Why a step is not done. Those that begin with "etcd panics" end every member of etcd that has the entry in its log.
const (
	skipKeeps       = "etcd panics: a transaction deletes a key, then keeps its value or its lease"
	skipNoMember    = "etcd panics: attributes of a member that never was"
	skipVersion     = "etcd panics: a cluster version that is none, or above its own"
	skipDowngrade   = "etcd panics: a downgrade to what is no version (at its next start)"
	skipLastVoter   = "etcd panics: the last voter removed (in raft)"
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
		return p.skippedTxn(s.readTxn)
	}
	c := s.command
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
		return p.skippedTxn(c.Txn)
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
	case c.DowngradeInfoSet != nil && c.DowngradeInfoSet.Enabled:
		if _, err := semver.NewVersion(c.DowngradeInfoSet.Ver); err != nil {
			return skipDowngrade
		}
	case c.AuthUserAdd != nil && c.AuthUserAdd.HashedPassword == "" && c.AuthUserAdd.Password != "",
		c.AuthUserChangePassword != nil && c.AuthUserChangePassword.HashedPassword == "" && c.AuthUserChangePassword.Password != "":
		return skipPassword
	}
	return ""
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

// skippedTxn looks at all operations of a transaction first, then at what those of the branches taken do to each other.
func (p *pair) skippedTxn(t *etcdserverpb.TxnRequest) string {
	if why := skippedOperations(t); why != "" {
		return why
	}
	if x := (taken{e: p.e}); x.keepsDeleted(t) {
		return skipKeeps
	}
	return ""
}

func skippedOperations(t *etcdserverpb.TxnRequest) string {
	for _, c := range t.Compare {
		if len(c.Key) == 0 {
			return skipNoKey
		}
	}
	for _, branch := range [][]*etcdserverpb.RequestOp{t.Success, t.Failure} {
		for _, op := range branch {
			if why := skippedOperation(op); why != "" {
				return why
			}
		}
	}
	return ""
}

func skippedOperation(op *etcdserverpb.RequestOp) string {
	var key []byte
	switch r := op.Request.(type) {
	case *etcdserverpb.RequestOp_RequestRange:
		return skippedRange(r.RequestRange)
	case *etcdserverpb.RequestOp_RequestTxn:
		return skippedOperations(r.RequestTxn)
	case *etcdserverpb.RequestOp_RequestPut:
		key = r.RequestPut.Key
	case *etcdserverpb.RequestOp_RequestDeleteRange:
		key = r.RequestDeleteRange.Key
	default:
		return skipNoOperation
	}
	if len(key) == 0 {
		return skipNoKey
	}
	return ""
}

// taken follows the branches that etcd will take.
type taken struct {
	e       *etcd
	deletes []*etcdserverpb.DeleteRangeRequest
}

// keepsDeleted tells whether a key that is there is deleted first, and its value or lease kept then.
func (x *taken) keepsDeleted(t *etcdserverpb.TxnRequest) bool {
	branch := t.Failure
	if answer, ok := x.e.readTxn(&etcdserverpb.TxnRequest{Compare: t.Compare}).resp.(*etcdserverpb.TxnResponse); ok && answer.Succeeded {
		branch = t.Success
	}
	for _, op := range branch {
		if d := op.GetRequestDeleteRange(); d != nil {
			x.deletes = append(x.deletes, d)
		}
		if r := op.GetRequestPut(); r != nil && (r.IgnoreValue || r.IgnoreLease) && x.deletesLive(r.Key) {
			return true
		}
		if n := op.GetRequestTxn(); n != nil && x.keepsDeleted(n) {
			return true
		}
	}
	return false
}

// deletesLive tells whether a key is there and one of the deletions so far is of it.
func (x *taken) deletesLive(key []byte) bool {
	for _, d := range x.deletes {
		if covers(d, key) {
			answer, ok := x.e.read(&etcdserverpb.RangeRequest{Key: key}).resp.(*etcdserverpb.RangeResponse)
			return ok && answer.Count > 0
		}
	}
	return false
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
