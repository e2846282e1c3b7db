package etcdfile

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/lease"
)

// ErrInvalid is wrapped by errors about a file that does not hold what etcd's database holds.
var ErrInvalid = errors.New("etcdfile: not a valid database")

// The buckets, in the order of their names.
const (
	bucketAlarm     = "alarm"
	bucketAuth      = "auth"
	bucketAuthRoles = "authRoles"
	bucketAuthUsers = "authUsers"
	bucketCluster   = "cluster"
	bucketKey       = "key"
	bucketLease     = "lease"
	bucketMembers   = "members"
	bucketRemoved   = "members_removed"
	bucketMeta      = "meta"
)

// buckets is every bucket of a file; etcd makes them all, empty ones too.
var buckets = []string{
	bucketAlarm, bucketAuth, bucketAuthRoles, bucketAuthUsers, bucketCluster,
	bucketKey, bucketLease, bucketMembers, bucketRemoved, bucketMeta,
}

// The keys in the buckets meta, cluster and auth.
const (
	metaIndex      = "consistent_index"
	metaTerm       = "term"
	metaConfState  = "confState"
	metaStorage    = "storageVersion"
	metaScheduled  = "scheduledCompactRev"
	metaFinished   = "finishedCompactRev"
	clusterVersion = "clusterVersion"
	clusterTarget  = "downgrade"
	authEnabled    = "authEnabled"
	authRevision   = "authRevision"
)

// removedValue is what bucket members_removed says of every member in it.
const removedValue = "removed"

// Lengths of a revision as a key: main, '_', sub, and 't' for a tombstone.
const (
	revisionBytes  = 8 + 1 + 8
	tombstoneBytes = revisionBytes + 1
)

// Revision is where a version stands in the bucket key. etcd's sub-revisions are 64 bits wide.
type Revision struct {
	Main, Sub int64
	// Tombstone says that the version is a deletion.
	Tombstone bool
}

// appendRevision appends a revision as the bucket's key.
func appendRevision(dst []byte, r Revision) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.Main))
	dst = append(dst, '_')
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.Sub))
	if r.Tombstone {
		dst = append(dst, 't')
	}
	return dst
}

func decodeRevision(b []byte) (r Revision, err error) {
	switch {
	case len(b) != revisionBytes && len(b) != tombstoneBytes,
		b[8] != '_', len(b) == tombstoneBytes && b[revisionBytes] != 't':
		return Revision{}, fmt.Errorf("%w: the revision %x cannot be read", ErrInvalid, b)
	}
	r = Revision{
		Main:      int64(binary.BigEndian.Uint64(b)),
		Sub:       int64(binary.BigEndian.Uint64(b[9:])),
		Tombstone: len(b) == tombstoneBytes,
	}
	if r.Main < 0 || r.Sub < 0 {
		return Revision{}, fmt.Errorf("%w: the revision %x is negative", ErrInvalid, b)
	}
	return r, nil
}

func encodeNumber(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func decodeNumber(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: the number %x has %d bytes and not 8", ErrInvalid, b, len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

// The fields of a lease's and of an alarm's record.
const (
	fieldFirst  protowire.Number = 1 // the lease's id, the alarm's member
	fieldSecond protowire.Number = 2 // the time to live, the alarm's type
	fieldThird  protowire.Number = 3 // the remaining time to live
)

// appendNumbers appends numbers as the fields 1, 2, ... of a message, zero ones left out.
func appendNumbers(dst []byte, numbers ...uint64) []byte {
	for i, n := range numbers {
		if n != 0 {
			dst = protowire.AppendTag(dst, fieldFirst+protowire.Number(i), protowire.VarintType)
			dst = protowire.AppendVarint(dst, n)
		}
	}
	return dst
}

// decodeNumbers decodes a message whose fields 1, 2, ... are the numbers. Fields that it does not know are left alone.
func decodeNumbers(b []byte, numbers []uint64) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("%w: %w", ErrInvalid, protowire.ParseError(n))
		}
		b = b[n:]
		if kind == protowire.VarintType && int(field) <= len(numbers) {
			numbers[field-1], n = protowire.ConsumeVarint(b)
		} else {
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return fmt.Errorf("%w: %w", ErrInvalid, protowire.ParseError(n))
		}
		b = b[n:]
	}
	return nil
}

func appendLease(dst []byte, l lease.Lease) []byte {
	return appendNumbers(dst, uint64(l.ID), uint64(l.TTL), uint64(l.Remaining))
}

func decodeLease(key, value []byte) (lease.Lease, error) {
	id, err := decodeNumber(key)
	if err != nil {
		return lease.Lease{}, fmt.Errorf("a lease's id: %w", err)
	}
	var n [fieldThird]uint64
	if err := decodeNumbers(value, n[:]); err != nil {
		return lease.Lease{}, fmt.Errorf("lease %x: %w", id, err)
	}
	if n[0] != id {
		return lease.Lease{}, fmt.Errorf("%w: the record of lease %x is that of %x", ErrInvalid, id, n[0])
	}
	return lease.Lease{ID: int64(id), TTL: int64(n[1]), Remaining: int64(n[2])}, nil
}

func encodeAlarm(member uint64, alarm uint32) []byte {
	// The type is an enum of 32 bits: a negative one is ten bytes long on the wire.
	return appendNumbers(nil, member, uint64(int64(int32(alarm))))
}

func decodeAlarm(key []byte) (cluster.Alarm, error) {
	var n [fieldSecond]uint64
	if err := decodeNumbers(key, n[:]); err != nil {
		return cluster.Alarm{}, fmt.Errorf("an alarm: %w", err)
	}
	return cluster.Alarm{Member: cluster.ID(n[0]), Type: cluster.AlarmType(int32(n[1]))}, nil
}

func memberName(id uint64) []byte { return strconv.AppendUint(nil, id, 16) }

func decodeMemberName(b []byte) (cluster.ID, error) {
	id, err := strconv.ParseUint(string(b), 16, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: the member's id %q cannot be read", ErrInvalid, b)
	}
	return cluster.ID(id), nil
}

// encodeConfState encodes a configuration as etcd does; it always says whether to leave a joint one by itself.
func encodeConfState(cs *raftpb.ConfState) ([]byte, error) {
	cs.AutoLeave = proto.Bool(cs.GetAutoLeave())
	b, err := json.Marshal(cs)
	if err != nil {
		return nil, fmt.Errorf("encode the configuration: %w", err)
	}
	return b, nil
}

func decodeConfState(b []byte) (*raftpb.ConfState, error) {
	cs := &raftpb.ConfState{}
	if err := json.Unmarshal(b, cs); err != nil {
		return nil, fmt.Errorf("%w: the configuration: %w", ErrInvalid, err)
	}
	return cs, nil
}
