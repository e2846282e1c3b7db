package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// FormatVersion is the version of the formats of log and IDENTITY file that this release writes, and the highest that it reads
// (docs/format/README.md).
const FormatVersion = 1

// StateFormat is the same of the state, whose identity record says it.
const StateFormat = 2

// IdentityName is the name of the identity record among the meta records of the state.
const IdentityName = "identity"

// Identity says whose data a directory holds. The log, the state and the IDENTITY file of one member carry the
// same, but for the format; a difference means that halves of different stores were put together.
type Identity struct {
	// Format is the version of the format of what carries the identity (FormatVersion, StateFormat).
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

// Same tells whether two parts belong to one member, whatever their formats are.
func (id Identity) Same(other Identity) bool {
	id.Format = other.Format
	return id == other
}

// OfState returns the identity as a state of this release carries it.
func (id Identity) OfState() Identity {
	id.Format = StateFormat
	return id
}

// Encode returns the bytes of the identity record.
func (id Identity) Encode() []byte {
	b := binary.AppendUvarint(nil, uint64(id.Format))
	b = binary.BigEndian.AppendUint64(b, id.ClusterID)
	b = binary.BigEndian.AppendUint64(b, id.MemberID)
	return append(b, id.StoreID[:]...)
}

var errIdentity = errors.New("the identity record is damaged")

// DecodeIdentity reads what Encode made for a log. It returns an error that wraps ErrNewerFormat when a newer release wrote
// it; what follows the version may then mean anything and is not looked at.
func DecodeIdentity(b []byte) (Identity, error) { return decodeIdentity(b, FormatVersion) }

// DecodeStateIdentity is DecodeIdentity for the record of a state.
func DecodeStateIdentity(b []byte) (Identity, error) { return decodeIdentity(b, StateFormat) }

func decodeIdentity(b []byte, known uint64) (Identity, error) {
	format, n := binary.Uvarint(b)
	if n <= 0 || format == 0 {
		return Identity{}, errIdentity
	}
	if format > known {
		return Identity{}, fmt.Errorf("%w: format version %d, known up to %d", ErrNewerFormat, format, known)
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
