package auth

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/authpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Root is the name of the user that must be there, and of the role that may do everything.
const Root = "root"

// User is one user. Its slices belong to the table and must not be changed.
type User struct {
	Name string
	// Hash is the bcrypt hash of the password; no password fits an empty one.
	Hash []byte
	// NoPassword says that the user has no password and never gets one.
	NoPassword bool
	// Roles are the names of its roles, sorted.
	Roles []string
}

// Has tells whether the user has a role.
func (u *User) Has(role string) bool {
	_, found := slices.BinarySearch(u.Roles, role)
	return found
}

// Role is one role. Its slices belong to the table and must not be changed.
type Role struct {
	Name        string
	Permissions []Permission
}

// Kind is what a permission allows, numbered as in authpb. Numbers without a name here are kept and allow nothing.
type Kind int32

// The kinds.
const (
	Read Kind = iota
	Write
	ReadWrite
)

// Permission allows something with the keys from Key to End, exclusive. An empty End stands for the one key, one of the
// byte 0 alone for all keys from Key on.
type Permission struct {
	Kind     Kind
	Key, End []byte
}

// account is a user with what its roles permit together, which is found out when it is first needed. The user is
// not changed any more once it is in a map.
type account struct {
	User
	merged atomic.Pointer[merged]
}

// Record is a kind of records in the space.
type Record byte

// The kinds; a name follows that of users and roles.
const (
	RecordUser     Record = 'u'
	RecordRole     Record = 'r'
	RecordStanding Record = 's'
)

func recordKey(kind Record, name string) []byte {
	return storage.AppendPlainKey(nil, storage.SpaceAuth, []byte{byte(kind)}, []byte(name))
}

// SplitKey splits the key of a record; rest is the key without the space, as storage.PlainRest returns it. The name
// aliases it. The kind is 0 for no key of the space.
func SplitKey(rest []byte) (kind Record, name []byte) {
	if len(rest) == 0 {
		return 0, nil
	}
	return Record(rest[0]), rest[1:]
}

// StandingKey is the key of the switch and the auth revision.
func StandingKey() []byte { return recordKey(RecordStanding, "") }

// DecodeStanding reads the record of StandingKey. The error wraps storage.ErrCorrupt.
func DecodeStanding(v []byte) (enabled bool, revision uint64, err error) {
	s, err := decodeStanding(v)
	return s.enabled, s.revision, err
}

// standing is the switch.
type standing struct {
	enabled  bool
	revision uint64
}

// unused is the switch of a state that never had a user.
var unused = standing{revision: 1}

func (s standing) encode() []byte {
	b := binary.AppendUvarint(nil, s.revision)
	if s.enabled {
		return append(b, 1)
	}
	return append(b, 0)
}

func decodeStanding(v []byte) (standing, error) {
	rev, n := binary.Uvarint(v)
	if n <= 0 || rev == 0 || len(v) != n+1 || v[n] > 1 {
		return standing{}, fmt.Errorf("%w: the switch of authentication", storage.ErrCorrupt)
	}
	return standing{enabled: v[n] == 1, revision: rev}, nil
}

var canonical = proto.MarshalOptions{Deterministic: true}

func encodeUser(u *User) ([]byte, error) {
	return canonical.Marshal(&authpb.User{
		Name: []byte(u.Name), Password: u.Hash, Roles: u.Roles, Options: &authpb.UserAddOptions{NoPassword: u.NoPassword},
	})
}

func decodeUser(name string, v []byte) (*account, error) {
	var m authpb.User
	if err := proto.Unmarshal(v, &m); err != nil || string(m.Name) != name {
		return nil, fmt.Errorf("%w: the user %q", storage.ErrCorrupt, name)
	}
	return &account{User: User{
		Name: strings.Clone(name), Hash: m.Password, NoPassword: m.GetOptions().GetNoPassword(), Roles: m.Roles,
	}}, nil
}

func encodeRole(r *Role) ([]byte, error) {
	m := &authpb.Role{Name: []byte(r.Name)}
	for _, p := range r.Permissions {
		m.KeyPermission = append(m.KeyPermission, &authpb.Permission{
			PermType: authpb.Permission_Type(p.Kind), Key: p.Key, RangeEnd: p.End,
		})
	}
	return canonical.Marshal(m)
}

func decodeRole(name string, v []byte) (*Role, error) {
	var m authpb.Role
	if err := proto.Unmarshal(v, &m); err != nil || string(m.Name) != name {
		return nil, fmt.Errorf("%w: the role %q", storage.ErrCorrupt, name)
	}
	r := &Role{Name: strings.Clone(name)}
	for _, p := range m.KeyPermission {
		r.Permissions = append(r.Permissions, Permission{Kind: Kind(p.GetPermType()), Key: p.GetKey(), End: p.GetRangeEnd()})
	}
	return r, nil
}
