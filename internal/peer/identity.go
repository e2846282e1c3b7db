package peer

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/coreos/go-semver/semver"

	"github.com/ashlar-kv/ashlar/internal/version"
)

// The headers of the protocol; the last one is ours.
const (
	headerFrom       = "X-Server-From"
	headerVersion    = "X-Server-Version"
	headerMinVersion = "X-Min-Cluster-Version"
	headerCluster    = "X-Etcd-Cluster-ID"
	headerTo         = "X-Raft-To"
	headerPeerURLs   = "X-PeerURLs"
	headerAshlar     = "X-Ashlar-Version"
)

// minClusterVersion is the lowest cluster version that a member of this release can be part of, as etcd says it.
const minClusterVersion = "3.0.0"

// absentVersion stands for a version that a member did not tell, as members before 2.1 did not.
const absentVersion = "2.0.0"

var (
	// ErrRemoved is returned when another member says that this one was removed from the cluster.
	ErrRemoved = errors.New("peer: the member has been permanently removed from the cluster")
	// ErrClusterMismatch is returned when the other side is a member of another cluster.
	ErrClusterMismatch = errors.New("cluster ID mismatch")
	// ErrIncompatible is returned when the other side's version and this one's cannot be in one cluster.
	ErrIncompatible = errors.New("incompatible version")
	// errUnknownHere is returned when the other side does not know this member yet.
	errUnknownHere = errors.New("the remote does not know this member yet")
)

// Identity says who a member is.
type Identity struct{ Member, Cluster uint64 }

func hex(id uint64) string { return strconv.FormatUint(id, 16) }

func parseHex(s string) (uint64, error) { return strconv.ParseUint(s, 16, 64) }

// introduce sets the headers by which a member says who it is. urls may be nil.
func (id Identity) introduce(h http.Header, urls []string) {
	h.Set(headerFrom, hex(id.Member))
	h.Set(headerVersion, version.Etcd)
	h.Set(headerMinVersion, minClusterVersion)
	h.Set(headerCluster, hex(id.Cluster))
	h.Set(headerAshlar, version.Ashlar)
	if len(urls) > 0 {
		h.Set(headerPeerURLs, strings.Join(urls, ","))
	}
}

// check says whether the sender of a request belongs to this member's cluster: ErrIncompatible, ErrClusterMismatch.
func (id Identity) check(h http.Header) error {
	if err := checkVersions(h.Get(headerVersion), h.Get(headerMinVersion)); err != nil {
		return err
	}
	if h.Get(headerCluster) != hex(id.Cluster) {
		return ErrClusterMismatch
	}
	return nil
}

// checkVersions compares the other side's version with what this one needs, and the other way round.
func checkVersions(theirs, theirMin string) error {
	server, err := parseVersion(theirs)
	if err != nil {
		return ErrIncompatible
	}
	least, err := parseVersion(theirMin)
	if err != nil {
		return ErrIncompatible
	}
	if server.LessThan(*semver.New(minClusterVersion)) || semver.New(version.Etcd).LessThan(*least) {
		return ErrIncompatible
	}
	return nil
}

func parseVersion(s string) (*semver.Version, error) {
	if s == "" {
		s = absentVersion
	}
	return semver.NewVersion(s)
}

// peerURLs returns the addresses that the sender of a request told.
func peerURLs(h http.Header) []string {
	s := h.Get(headerPeerURLs)
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}
