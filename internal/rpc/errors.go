package rpc

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/auth"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/member"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// statuses is the one table from our errors to etcd's statuses. An error is looked for with errors.Is, from the
// top: an error that wraps two of them has the status of the upper one.
var statuses = []struct{ err, status error }{
	{mvcc.ErrCompacted, rpctypes.ErrGRPCCompacted},
	{mvcc.ErrFutureRevision, rpctypes.ErrGRPCFutureRev},
	{mvcc.ErrTooLarge, status.Error(codes.ResourceExhausted, "ashlar: the range is too large to be sorted by anything but its keys")},

	{apply.ErrKeyNotFound, rpctypes.ErrGRPCKeyNotFound},
	{apply.ErrEmptyKey, rpctypes.ErrGRPCEmptyKey},
	{apply.ErrTooLarge, errResponseTooLarge},
	{apply.ErrNoSpace, rpctypes.ErrGRPCNoSpace},
	{apply.ErrCorrupt, rpctypes.ErrGRPCCorrupt},

	{auth.ErrUserEmpty, rpctypes.ErrGRPCUserEmpty},
	{auth.ErrUserExists, rpctypes.ErrGRPCUserAlreadyExist},
	{auth.ErrUserNotFound, rpctypes.ErrGRPCUserNotFound},
	{auth.ErrRoleEmpty, rpctypes.ErrGRPCRoleEmpty},
	{auth.ErrRoleExists, rpctypes.ErrGRPCRoleAlreadyExist},
	{auth.ErrRoleNotFound, rpctypes.ErrGRPCRoleNotFound},
	{auth.ErrRoleNotGranted, rpctypes.ErrGRPCRoleNotGranted},
	{auth.ErrPermissionNotGiven, rpctypes.ErrGRPCPermissionNotGiven},
	{auth.ErrPermissionNotGranted, rpctypes.ErrGRPCPermissionNotGranted},
	{auth.ErrPermissionDenied, rpctypes.ErrGRPCPermissionDenied},
	{auth.ErrInvalidManagement, rpctypes.ErrGRPCInvalidAuthMgmt},
	{auth.ErrRootUserMissing, rpctypes.ErrGRPCRootUserNotExist},
	{auth.ErrRootRoleMissing, rpctypes.ErrGRPCRootRoleNotExist},
	{auth.ErrNotEnabled, rpctypes.ErrGRPCAuthNotEnabled},
	{auth.ErrFailed, rpctypes.ErrGRPCAuthFailed},
	{auth.ErrOldRevision, rpctypes.ErrGRPCAuthOldRevision},
	{member.ErrInvalidToken, rpctypes.ErrGRPCInvalidAuthToken},

	{lease.ErrNotFound, rpctypes.ErrGRPCLeaseNotFound},
	{lease.ErrExists, rpctypes.ErrGRPCLeaseExist},
	{lease.ErrTTLTooLarge, rpctypes.ErrGRPCLeaseTTLTooLarge},
	{member.ErrLeaseFull, status.Error(codes.ResourceExhausted, "ashlar: too many keys hang on the lease")},

	{member.ErrExportLost, status.Error(codes.Aborted, "ashlar: the snapshot was given up: nothing of it was read while others waited")},

	{member.ErrRequestTooLarge, rpctypes.ErrGRPCRequestTooLarge},
	{member.ErrTooManyRequests, rpctypes.ErrGRPCRequestTooManyRequests},
	{member.ErrNoLeader, rpctypes.ErrGRPCNoLeader},
	{member.ErrLeaderChanged, rpctypes.ErrGRPCLeaderChanged},
	{member.ErrStopped, rpctypes.ErrGRPCStopped},
	{member.ErrTimeoutLeaderFail, rpctypes.ErrGRPCTimeoutDueToLeaderFail},
	{member.ErrTimeoutConnectionLost, rpctypes.ErrGRPCTimeoutDueToConnectionLost},
	{member.ErrTimeout, rpctypes.ErrGRPCTimeout},

	{member.ErrDowngradeVersion, rpctypes.ErrGRPCWrongDowngradeVersionFormat},
	{member.ErrDowngradeTarget, rpctypes.ErrGRPCInvalidDowngradeTargetVersion},
	{member.ErrDowngradeRunning, rpctypes.ErrGRPCDowngradeInProcess},
	{member.ErrVersionUnknown, rpctypes.ErrGRPCClusterVersionUnavailable},

	{cluster.ErrIDRemoved, rpctypes.ErrGRPCMemberNotFound},
	{cluster.ErrIDNotFound, rpctypes.ErrGRPCMemberNotFound},
	{cluster.ErrIDExists, rpctypes.ErrGRPCMemberExist},
	{cluster.ErrPeerURLExists, rpctypes.ErrGRPCPeerURLExist},
	{cluster.ErrNotLearner, rpctypes.ErrGRPCMemberNotLearner},
	{cluster.ErrTooManyLearners, rpctypes.ErrGRPCTooManyLearners},
	{cluster.ErrLastVoter, errNotEnoughStarted},
	{member.ErrNotEnoughStarted, errNotEnoughStarted},
	{member.ErrUnhealthy, rpctypes.ErrGRPCUnhealthy},
	{member.ErrLearnerNotReady, rpctypes.ErrGRPCLearnerNotReady},
	{member.ErrNotLeader, rpctypes.ErrGRPCNotLeader},
	{member.ErrBadTransferee, rpctypes.ErrGRPCBadLeaderTransferee},
	{member.ErrTransferTimeout, status.Error(codes.Unknown, "etcdserver: request timed out, leader transfer took too long")},

	{context.Canceled, rpctypes.ErrGRPCCanceled},
	{context.DeadlineExceeded, rpctypes.ErrGRPCDeadlineExceeded},
}

// errNotEnoughStarted has etcd's text and, as there, no code.
var errNotEnoughStarted = status.Error(codes.Unknown, rpctypes.ErrorDesc(rpctypes.ErrGRPCMemberNotEnoughStarted))

// toStatus returns the error that a client is told. One that is a status already stays; one that no table knows has
// the code Unknown and its text, as in etcd.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := err.(interface{ GRPCStatus() *status.Status }); ok {
		return err
	}
	for i := range statuses {
		if errors.Is(err, statuses[i].err) {
			return statuses[i].status
		}
	}
	if s, ok := status.FromError(err); ok {
		return s.Err()
	}
	return status.Error(codes.Unknown, err.Error())
}
