package differential

import (
	"errors"
	"fmt"

	etcdauth "go.etcd.io/etcd/server/v3/auth"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	etcderrors "go.etcd.io/etcd/server/v3/etcdserver/errors"
	etcdlease "go.etcd.io/etcd/server/v3/lease"
	etcdmvcc "go.etcd.io/etcd/server/v3/storage/mvcc"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/auth"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

func leaseID(id int64) etcdlease.LeaseID { return etcdlease.LeaseID(id) }

// refusals pairs what the machines call the same reason. The texts that clients see are made of them elsewhere, and tested
// there.
var refusals = []struct{ etcd, ashlar error }{
	{etcdmvcc.ErrCompacted, mvcc.ErrCompacted},
	{etcdmvcc.ErrFutureRev, mvcc.ErrFutureRevision},
	{etcdlease.ErrLeaseNotFound, lease.ErrNotFound},
	{etcdlease.ErrLeaseExists, lease.ErrExists},
	{etcdlease.ErrLeaseTTLTooLarge, lease.ErrTTLTooLarge},
	{etcderrors.ErrKeyNotFound, apply.ErrKeyNotFound},
	{etcderrors.ErrNoSpace, apply.ErrNoSpace},
	{etcderrors.ErrCorrupt, apply.ErrCorrupt},
	{membership.ErrIDRemoved, cluster.ErrIDRemoved},
	{membership.ErrIDExists, cluster.ErrIDExists},
	{membership.ErrIDNotFound, cluster.ErrIDNotFound},
	{membership.ErrPeerURLexists, cluster.ErrPeerURLExists},
	{membership.ErrMemberNotLearner, cluster.ErrNotLearner},
	{membership.ErrTooManyLearners, cluster.ErrTooManyLearners},
	{etcdauth.ErrRootUserNotExist, auth.ErrRootUserMissing},
	{etcdauth.ErrRootRoleNotExist, auth.ErrRootRoleMissing},
	{etcdauth.ErrUserAlreadyExist, auth.ErrUserExists},
	{etcdauth.ErrUserEmpty, auth.ErrUserEmpty},
	{etcdauth.ErrUserNotFound, auth.ErrUserNotFound},
	{etcdauth.ErrRoleAlreadyExist, auth.ErrRoleExists},
	{etcdauth.ErrRoleNotFound, auth.ErrRoleNotFound},
	{etcdauth.ErrRoleEmpty, auth.ErrRoleEmpty},
	{etcdauth.ErrPermissionNotGiven, auth.ErrPermissionNotGiven},
	{etcdauth.ErrAuthFailed, auth.ErrFailed},
	{etcdauth.ErrNoPasswordUser, auth.ErrNoPasswordUser},
	{etcdauth.ErrPermissionDenied, auth.ErrPermissionDenied},
	{etcdauth.ErrRoleNotGranted, auth.ErrRoleNotGranted},
	{etcdauth.ErrPermissionNotGranted, auth.ErrPermissionNotGranted},
	{etcdauth.ErrAuthNotEnabled, auth.ErrNotEnabled},
	{etcdauth.ErrAuthOldRevision, auth.ErrOldRevision},
	{etcdauth.ErrInvalidAuthMgmt, auth.ErrInvalidManagement},
}

// sharedText is the text of a refusal, of either machine, in etcd's words.
func sharedText(err error) string {
	if err == nil {
		return "done"
	}
	for _, r := range refusals {
		if errors.Is(err, r.ashlar) || errors.Is(err, r.etcd) {
			return r.etcd.Error()
		}
	}
	return fmt.Sprintf("%v (%T)", err, err)
}

// differences says in what two outcomes differ, "" when in nothing. Where etcd's response has a header its revision counts.
func (want outcome) differences(got outcome) string {
	if w, g := sharedText(want.err), sharedText(got.err); w != g {
		return fmt.Sprintf("\n  etcd:   %s\n  ashlar: %s", w, g)
	}
	if want.err != nil {
		return ""
	}
	if want.rev != 0 && want.rev != got.rev {
		return fmt.Sprintf("\n  etcd:   header with revision %d\n  ashlar: header with revision %d", want.rev, got.rev)
	}
	if want.resp != nil && got.resp != nil && !proto.Equal(want.resp, got.resp) {
		return fmt.Sprintf("\n  etcd:   %s\n  ashlar: %s", prototext.Format(want.resp), prototext.Format(got.resp))
	}
	return ""
}

// outcomeOf turns a result into an outcome; like is a response of the type that it holds, nil when there is none.
func outcomeOf(r apply.Result, like proto.Message) (outcome, error) {
	out := outcome{rev: r.Revision, err: r.Err}
	if r.Err != nil || like == nil {
		return out, nil
	}
	out.resp = like.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(r.Body, out.resp); err != nil {
		return out, fmt.Errorf("decode what Ashlar answers: %w", err)
	}
	return out, nil
}
