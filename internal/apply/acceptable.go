package apply

import (
	"fmt"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Acceptable says whether an entry that another program wrote can be applied: the error is the one that would stop the
// member, as far as it is in the entry alone.
func Acceptable(e *raftpb.Entry) error {
	var err error
	switch e.GetType() {
	case raftpb.EntryNormal:
		if len(e.GetData()) > 0 {
			err = acceptableCommand(e.GetData())
		}
	case raftpb.EntryConfChange:
		cc := &raftpb.ConfChange{}
		if err = proto.Unmarshal(e.GetData(), cc); err != nil {
			err = fmt.Errorf("%w: %w", ErrMalformed, err)
		} else {
			_, err = readConfChange(cc)
		}
	default:
		err = fmt.Errorf("%w: an entry of type %s", ErrUnknownCommand, e.GetType())
	}
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.GetIndex(), err)
	}
	return nil
}

func acceptableCommand(data []byte) error {
	_, cmd, raw, err := Decode(data)
	if err != nil {
		return err
	}
	switch cmd {
	case CommandV2:
		r, err := parseV2(raw)
		if err == nil {
			_, err = r.change()
		}
		return err
	case CommandPut:
		_, err = ParsePut(raw)
	case CommandDeleteRange:
		_, err = ParseDeleteRange(raw)
	case CommandTxn:
		_, err = ParseTxn(raw)
	case CommandCompaction:
		_, err = ParseCompact(raw)
	case CommandAlarm:
		_, err = ParseAlarm(raw)
	case CommandClusterVersionSet:
		err = parsed(raw, func(r *membershippb.ClusterVersionSetRequest) error { return checkClusterVersion(r.GetVer()) })
	case CommandClusterMemberAttrSet:
		err = readable[membershippb.ClusterMemberAttrSetRequest](raw)
	case CommandDowngradeInfoSet:
		err = readable[membershippb.DowngradeInfoSetRequest](raw)
	case CommandLeaseGrant:
		err = readable[etcdserverpb.LeaseGrantRequest](raw)
	case CommandLeaseRevoke:
		err = readable[etcdserverpb.LeaseRevokeRequest](raw)
	case CommandLeaseCheckpoint:
		err = readable[etcdserverpb.LeaseCheckpointRequest](raw)
	default:
		err = acceptableAuth(cmd, raw)
	}
	return err
}

// acceptableAuth is acceptableCommand for what concerns users and roles.
func acceptableAuth(cmd Command, raw []byte) (err error) {
	switch cmd {
	case CommandAuthenticate:
		err = readable[etcdserverpb.InternalAuthenticateRequest](raw)
	case CommandAuthUserAdd:
		err = parsed(raw, func(r *etcdserverpb.AuthUserAddRequest) error {
			if r.GetOptions().GetNoPassword() {
				return nil // etcd logs what it was given, and nobody looks at it
			}
			return checkHashed(r.GetPassword(), r.GetHashedPassword())
		})
	case CommandAuthUserChangePassword:
		err = parsed(raw, func(r *etcdserverpb.AuthUserChangePasswordRequest) error {
			return checkHashed(r.GetPassword(), r.GetHashedPassword())
		})
	case CommandAuthUserDelete:
		err = readable[etcdserverpb.AuthUserDeleteRequest](raw)
	case CommandAuthUserGrantRole:
		err = readable[etcdserverpb.AuthUserGrantRoleRequest](raw)
	case CommandAuthUserRevokeRole:
		err = readable[etcdserverpb.AuthUserRevokeRoleRequest](raw)
	case CommandAuthRoleAdd:
		err = readable[etcdserverpb.AuthRoleAddRequest](raw)
	case CommandAuthRoleDelete:
		err = readable[etcdserverpb.AuthRoleDeleteRequest](raw)
	case CommandAuthRoleGrantPermission:
		err = readable[etcdserverpb.AuthRoleGrantPermissionRequest](raw)
	case CommandAuthRoleRevokePermission:
		err = readable[etcdserverpb.AuthRoleRevokePermissionRequest](raw)
	}
	return err
}

// readable refuses what the protobuf library does.
func readable[R any, P interface {
	*R
	proto.Message
}](raw []byte) error {
	return parsed(raw, func(P) error { return nil })
}

// checkHashed refuses a password in the clear.
func checkHashed(password, hashed string) error {
	if password != "" && hashed == "" {
		return ErrPlainPassword
	}
	return nil
}
