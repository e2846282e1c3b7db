package cluster

import (
	"crypto/sha1" //nolint:gosec // etcd's ids are defined by it; nothing secret depends on it
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
)

// ID identifies a member or a cluster. 0 is none.
type ID uint64

// String returns the id as etcd writes it: hexadecimal, without leading zeros.
func (id ID) String() string { return strconv.FormatUint(uint64(id), 16) }

// MemberID computes the id of a member as etcd does: from its peer URLs, the
// cluster's token, and for a member added to a running cluster the Unix time of that,
// in seconds; addedAt is nil for a founding member.
func MemberID(peerURLs []string, token string, addedAt *int64) ID {
	urls := slices.Sorted(slices.Values(peerURLs))
	b := []byte(strings.Join(urls, "") + token)
	if addedAt != nil {
		b = strconv.AppendInt(b, *addedAt, 10)
	}
	return firstBytes(b)
}

// clusterID computes the id of a cluster from its founding members'.
func clusterID(members []ID) ID {
	var b []byte
	for _, id := range slices.Sorted(slices.Values(members)) {
		b = binary.BigEndian.AppendUint64(b, uint64(id))
	}
	return firstBytes(b)
}

func firstBytes(b []byte) ID {
	sum := sha1.Sum(b) //nolint:gosec // see the import
	return ID(binary.BigEndian.Uint64(sum[:8]))
}
