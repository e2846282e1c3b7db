package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// FormatVersion is the version of the formats that this release writes, and the highest that it reads
// (docs/format/README.md).
const FormatVersion = 1

// IdentityName is the name of the identity record among the meta records of the state.
const IdentityName = "identity"

// Identity says whose data a directory holds. The log, the state and the IDENTITY file of one member carry the
// same; a difference means that halves of different stores were put together.
type Identity struct {
	// Format is the version of the formats (FormatVersion).
	Format uint32
	// ClusterID and MemberID are those of etcd's rules, fixed at bootstrap.
	ClusterID, MemberID uint64
	// StoreID is drawn at random once, at bootstrap.
	StoreID [16]byte
}

// String returns the identity for messages.
func (id Identity) String() string {
	return fmt.Sprintf("cluster %016x, member %016x, store %x, format %d", id.ClusterID, id.MemberID, id.StoreID, id.Format)
}

// Encode returns the bytes of the identity record.
func (id Identity) Encode() []byte {
	b := binary.AppendUvarint(nil, uint64(id.Format))
	b = binary.BigEndian.AppendUint64(b, id.ClusterID)
	b = binary.BigEndian.AppendUint64(b, id.MemberID)
	return append(b, id.StoreID[:]...)
}

var errIdentity = errors.New("the identity record is damaged")

// DecodeIdentity reads what Encode made. It returns an error that wraps ErrNewerFormat when a newer release wrote
// it; what follows the version may then mean anything and is not looked at.
func DecodeIdentity(b []byte) (Identity, error) {
	format, n := binary.Uvarint(b)
	if n <= 0 || format == 0 {
		return Identity{}, errIdentity
	}
	if format > FormatVersion {
		return Identity{}, fmt.Errorf("%w: format version %d, known up to %d", ErrNewerFormat, format, FormatVersion)
	}
	id := Identity{Format: uint32(format)}
	b = b[n:]
	if len(b) != 8+8+len(id.StoreID) {
		return Identity{}, errIdentity
	}
	id.ClusterID = binary.BigEndian.Uint64(b)
	id.MemberID = binary.BigEndian.Uint64(b[8:])
	copy(id.StoreID[:], b[16:])
	return id, nil
}
