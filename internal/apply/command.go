package apply

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Command names a request by its field number in etcdserverpb.InternalRaftRequest.
type Command int32

// The commands.
const (
	CommandV2                       Command = 2
	CommandRange                    Command = 3
	CommandPut                      Command = 4
	CommandDeleteRange              Command = 5
	CommandTxn                      Command = 6
	CommandCompaction               Command = 7
	CommandLeaseGrant               Command = 8
	CommandLeaseRevoke              Command = 9
	CommandAlarm                    Command = 10
	CommandLeaseCheckpoint          Command = 11
	CommandAuthEnable               Command = 1000
	CommandAuthDisable              Command = 1011
	CommandAuthenticate             Command = 1012
	CommandAuthStatus               Command = 1013
	CommandAuthUserAdd              Command = 1100
	CommandAuthUserDelete           Command = 1101
	CommandAuthUserGet              Command = 1102
	CommandAuthUserChangePassword   Command = 1103
	CommandAuthUserGrantRole        Command = 1104
	CommandAuthUserRevokeRole       Command = 1105
	CommandAuthUserList             Command = 1106
	CommandAuthRoleList             Command = 1107
	CommandAuthRoleAdd              Command = 1200
	CommandAuthRoleDelete           Command = 1201
	CommandAuthRoleGet              Command = 1202
	CommandAuthRoleGrantPermission  Command = 1203
	CommandAuthRoleRevokePermission Command = 1204
	CommandClusterVersionSet        Command = 1300
	CommandClusterMemberAttrSet     Command = 1301
	CommandDowngradeInfoSet         Command = 1302
	CommandDowngradeVersionTest     Command = 9900
)

// The other fields of InternalRaftRequest.
const (
	fieldID     = 1
	fieldHeader = 100
)

var commandNames = map[Command]string{
	CommandV2: "v2", CommandRange: "range", CommandPut: "put", CommandDeleteRange: "delete_range", CommandTxn: "txn",
	CommandCompaction: "compaction", CommandLeaseGrant: "lease_grant", CommandLeaseRevoke: "lease_revoke",
	CommandAlarm: "alarm", CommandLeaseCheckpoint: "lease_checkpoint", CommandAuthEnable: "auth_enable",
	CommandAuthDisable: "auth_disable", CommandAuthenticate: "authenticate", CommandAuthStatus: "auth_status",
	CommandAuthUserAdd: "auth_user_add", CommandAuthUserDelete: "auth_user_delete", CommandAuthUserGet: "auth_user_get",
	CommandAuthUserChangePassword: "auth_user_change_password", CommandAuthUserGrantRole: "auth_user_grant_role",
	CommandAuthUserRevokeRole: "auth_user_revoke_role", CommandAuthUserList: "auth_user_list",
	CommandAuthRoleList: "auth_role_list", CommandAuthRoleAdd: "auth_role_add", CommandAuthRoleDelete: "auth_role_delete",
	CommandAuthRoleGet: "auth_role_get", CommandAuthRoleGrantPermission: "auth_role_grant_permission",
	CommandAuthRoleRevokePermission: "auth_role_revoke_permission", CommandClusterVersionSet: "cluster_version_set",
	CommandClusterMemberAttrSet: "cluster_member_attr_set", CommandDowngradeInfoSet: "downgrade_info_set",
	CommandDowngradeVersionTest: "downgrade_version_test",
}

// String returns the command's name in InternalRaftRequest, or its number when it is not known.
func (c Command) String() string {
	if name, ok := commandNames[c]; ok {
		return name
	}
	return fmt.Sprintf("field %d", int32(c))
}

// Header is the header of a command: an etcdserverpb.RequestHeader.
type Header struct {
	// ID is what the proposer finds its waiter by.
	ID uint64
	// Username and AuthRevision say who asks, and by which state of the permissions that was checked.
	Username     string
	AuthRevision uint64
}

// Encode returns an entry's data: an InternalRaftRequest with the header and the encoded request message raw as command c.
// raw is copied.
func Encode(h Header, c Command, raw []byte) []byte {
	head := h.append(nil)
	size := protowire.SizeTag(protowire.Number(c)) + protowire.SizeBytes(len(raw)) +
		protowire.SizeTag(fieldHeader) + protowire.SizeBytes(len(head))
	if len(raw) >= largeRaw && c <= fieldHeader {
		before := protowire.AppendVarint(protowire.AppendTag(nil, protowire.Number(c), protowire.BytesType), uint64(len(raw)))
		return bytes.Join([][]byte{before, raw, appendField(nil, fieldHeader, head)}, nil)
	}
	dst := make([]byte, 0, size)
	// In the order of the field numbers, as etcd writes them.
	if c > fieldHeader {
		dst = appendField(dst, fieldHeader, head)
		return appendField(dst, protowire.Number(c), raw)
	}
	dst = appendField(dst, protowire.Number(c), raw)
	return appendField(dst, fieldHeader, head)
}

// largeRaw is from which size on a request is joined to its header in memory that is not cleared before (bytes.Join).
const largeRaw = 16 << 10

func (h Header) append(dst []byte) []byte {
	dst = appendNumber(dst, 1, int64(h.ID))
	if h.Username != "" {
		dst = appendField(dst, 2, []byte(h.Username))
	}
	return appendNumber(dst, 3, int64(h.AuthRevision))
}

// Decode splits an entry's data. raw, the encoded request of the command, aliases data. The error wraps ErrMalformed,
// or ErrUnknownCommand when there is no command that this release knows by name.
func Decode(data []byte) (h Header, c Command, raw []byte, err error) {
	if isBareV2(data) {
		r, err := parseV2(data)
		return Header{ID: r.id}, CommandV2, data, err
	}
	f := fields{rest: data}
	var id uint64
	var unknown Command
	for {
		ok, err := f.next()
		if err != nil {
			return Header{}, 0, nil, err
		}
		if !ok {
			break
		}
		num := Command(f.key >> 3)
		_, known := commandNames[num]
		switch {
		case f.key == varint(fieldID):
			id = f.n
		case f.key == message(fieldHeader):
			if err := h.parse(f.bytes); err != nil {
				return Header{}, 0, nil, err
			}
		case !known || f.key != message(protowire.Number(num)):
			unknown = num
		case c == 0:
			c, raw = num, f.bytes
		default:
			// Not even one command in two parts: nobody writes that.
			return Header{}, 0, nil, fmt.Errorf("%w: %s and %s in one entry", ErrMalformed, c, num)
		}
	}
	if id != 0 {
		h.ID = id
	}
	if c == 0 {
		return Header{}, 0, nil, fmt.Errorf("%w: %s", ErrUnknownCommand, unknown)
	}
	return h, c, raw, nil
}

func (h *Header) parse(b []byte) error {
	f := fields{rest: b}
	for {
		ok, err := f.next()
		if !ok {
			return err
		}
		switch f.key {
		case varint(1):
			h.ID = f.n
		case message(2):
			h.Username, err = f.text()
		case varint(3):
			h.AuthRevision = f.n
		}
		if err != nil {
			return err
		}
	}
}
