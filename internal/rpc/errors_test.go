package rpc

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/auth"
	"github.com/ashlar-kv/ashlar/internal/consensus"
	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/member"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

func TestErrorsBecomeEtcdsStatuses(t *testing.T) {
	t.Parallel()
	const deep = "etcdserver: "
	for _, c := range []struct {
		err  error
		code codes.Code
		text string
	}{
		{mvcc.ErrCompacted, codes.OutOfRange, deep + "mvcc: required revision has been compacted"},
		{mvcc.ErrFutureRevision, codes.OutOfRange, deep + "mvcc: required revision is a future revision"},
		{mvcc.ErrTooLarge, codes.ResourceExhausted, "ashlar: the range is too large to be sorted by anything but its keys"},
		{apply.ErrKeyNotFound, codes.InvalidArgument, deep + "key not found"},
		{lease.ErrNotFound, codes.NotFound, deep + "requested lease not found"},
		{lease.ErrExists, codes.FailedPrecondition, deep + "lease already exists"},
		{lease.ErrTTLTooLarge, codes.OutOfRange, deep + "too large lease TTL"},
		{apply.ErrEmptyKey, codes.InvalidArgument, deep + "key is not provided"},
		{apply.ErrNoSpace, codes.ResourceExhausted, deep + "mvcc: database space exceeded"},
		{apply.ErrCorrupt, codes.DataLoss, deep + "corrupt cluster"},
		{apply.ErrTooLarge, codes.ResourceExhausted, "ashlar: the response is larger than 2147483647 bytes: ask for less with limit or keys_only, or use RangeStream"},
		{member.ErrRequestTooLarge, codes.InvalidArgument, deep + "request is too large"},
		{member.ErrTooManyRequests, codes.ResourceExhausted, deep + "too many requests"},
		{member.ErrNoLeader, codes.Unavailable, deep + "no leader"},
		{member.ErrLeaderChanged, codes.Unavailable, deep + "leader changed"},
		{member.ErrStopped, codes.Unavailable, deep + "server stopped"},
		{member.ErrTimeout, codes.Unavailable, deep + "request timed out"},
		{fmt.Errorf("%w: %w", member.ErrTimeout, consensus.ErrReadTimeout), codes.Unavailable, deep + "request timed out"},
		{auth.ErrUserEmpty, codes.InvalidArgument, deep + "user name is empty"},
		{auth.ErrUserExists, codes.FailedPrecondition, deep + "user name already exists"},
		{auth.ErrUserNotFound, codes.FailedPrecondition, deep + "user name not found"},
		{auth.ErrRoleEmpty, codes.InvalidArgument, deep + "role name is empty"},
		{auth.ErrRoleExists, codes.FailedPrecondition, deep + "role name already exists"},
		{auth.ErrRoleNotFound, codes.FailedPrecondition, deep + "role name not found"},
		{auth.ErrRoleNotGranted, codes.FailedPrecondition, deep + "role is not granted to the user"},
		{auth.ErrPermissionNotGiven, codes.InvalidArgument, deep + "permission not given"},
		{auth.ErrPermissionNotGranted, codes.FailedPrecondition, deep + "permission is not granted to the role"},
		{auth.ErrPermissionDenied, codes.PermissionDenied, deep + "permission denied"},
		{auth.ErrInvalidManagement, codes.InvalidArgument, deep + "invalid auth management"},
		{auth.ErrRootUserMissing, codes.FailedPrecondition, deep + "root user does not exist"},
		{auth.ErrRootRoleMissing, codes.FailedPrecondition, deep + "root user does not have root role"},
		{auth.ErrNotEnabled, codes.FailedPrecondition, deep + "authentication is not enabled"},
		{auth.ErrFailed, codes.InvalidArgument, deep + "authentication failed, invalid user ID or password"},
		{auth.ErrOldRevision, codes.InvalidArgument, deep + "revision of auth store is old"},
		{member.ErrInvalidToken, codes.Unauthenticated, deep + "invalid auth token"},
		{context.Canceled, codes.Canceled, deep + "request canceled"},
		{context.DeadlineExceeded, codes.DeadlineExceeded, deep + "context deadline exceeded"},
		{errResponseTooLarge, codes.ResourceExhausted, "ashlar: the response is larger than 2147483647 bytes: ask for less with limit or keys_only, or use RangeStream"},
		{errRevisionTooLarge, codes.ResourceExhausted, "ashlar: the events of a revision are larger than 2147483647 bytes: watch with fragment, or without prev_kv"},
		{errStreamSort, codes.Unimplemented, "RangeStream does not support custom sort orders"},
	} {
		for _, err := range []error{c.err, fmt.Errorf("reading: %w", c.err), errors.Join(errors.New("other"), fmt.Errorf("a: %w", c.err))} {
			s := status.Convert(toStatus(err))
			if s.Code() != c.code {
				t.Errorf("%v: code %s, want %s", err, s.Code(), c.code)
			}
			if _, wasStatus := c.err.(interface{ GRPCStatus() *status.Status }); (!wasStatus || err == c.err) && s.Message() != c.text {
				t.Errorf("%v: %q, want %q", err, s.Message(), c.text)
			}
		}
	}
	if toStatus(nil) != nil {
		t.Error("no error has a status")
	}
	if s := status.Convert(toStatus(errors.New("disk on fire"))); s.Code() != codes.Unknown || s.Message() != "disk on fire" {
		t.Errorf("an unknown error became %v", s)
	}
}

func TestEveryErrorOfTheTableIsFoundWrapped(t *testing.T) {
	t.Parallel()
	for _, row := range statuses {
		if got := toStatus(fmt.Errorf("doing: %w", row.err)); got != row.status {
			t.Errorf("%v became %v, want %v", row.err, got, row.status)
		}
	}
}
