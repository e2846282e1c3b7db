package storage

import (
	"encoding/binary"

	"github.com/ashlar-kv/ashlar/internal/invariant"
)

// The spaces of the state: the first byte of every key (docs/format/state.md).
const (
	// SpaceData holds the versions of the users' keys.
	SpaceData = 'd'
	// SpaceLarge holds versions with large values, whole, in order of revision.
	SpaceLarge = 'v'
	// SpaceHistory holds one record for each change, in order of revision.
	SpaceHistory = 'h'
	// SpaceCounts holds creates and deletes in order of revision.
	SpaceCounts = 'c'
	// SpaceRuns holds how many live keys there are from one key to another.
	SpaceRuns = 'r'
	// SpaceMembers holds the members of the cluster.
	SpaceMembers = 'm'
	// SpaceRemoved holds the ids of members that were removed.
	SpaceRemoved = 'M'
	// SpaceMeta holds single records by name.
	SpaceMeta = 'x'
	// SpaceLeases holds leases.
	SpaceLeases = 'l'
	// SpaceAttachments holds which keys belong to a lease.
	SpaceAttachments = 'k'
	// SpaceAuth holds users, roles and the switch.
	SpaceAuth = 'a'
	// SpaceAlarms holds raised alarms.
	SpaceAlarms = 'n'
)

// Keys of the state follow the schema of Pebble's cockroachkvs: the prefix, a zero byte, and for a version
// its bytes and then their number plus one. Versions of a prefix sort from the newest to the oldest, after
// the bare prefix.
const (
	sentinel    = 0
	mainBytes   = 8
	subBytes    = 4
	mainSuffix  = mainBytes + 1
	mainAndSub  = mainBytes + subBytes + 1
	revKeyBytes = 1 + mainBytes + subBytes + 1
)

// AppendDataPrefix appends the key that sorts before every version of the user key, and after every version
// of any smaller one: the bound to seek to, and half-open range ends.
func AppendDataPrefix(dst, user []byte) []byte {
	dst = append(dst, SpaceData)
	dst = append(dst, user...)
	return append(dst, sentinel)
}

// AppendDataKey appends the key of one version of the user key. REQUIRES: main > 0.
func AppendDataKey(dst, user []byte, main int64, sub uint32) []byte {
	invariant.Check(main > 0, "data key with main revision %d", main)
	dst = AppendDataPrefix(dst, user)
	dst = binary.BigEndian.AppendUint64(dst, uint64(main))
	if sub == 0 {
		return append(dst, mainSuffix)
	}
	dst = binary.BigEndian.AppendUint32(dst, sub)
	return append(dst, mainAndSub)
}

// DecodeDataKey splits the key of a version. user aliases key. ok is false for anything that AppendDataKey
// does not make.
func DecodeDataKey(key []byte) (user []byte, main int64, sub uint32, ok bool) {
	if len(key) < 1+1+mainSuffix || key[0] != SpaceData {
		return nil, 0, 0, false
	}
	suffix := int(key[len(key)-1])
	at := len(key) - suffix
	if suffix != mainSuffix && suffix != mainAndSub || at < 2 || key[at-1] != sentinel {
		return nil, 0, 0, false
	}
	main = int64(binary.BigEndian.Uint64(key[at:]))
	if suffix == mainAndSub {
		sub = binary.BigEndian.Uint32(key[at+mainBytes:])
	}
	if main <= 0 || suffix == mainAndSub && sub == 0 {
		return nil, 0, 0, false
	}
	return key[1 : at-1], main, sub, true
}

// AppendPlainKey appends a key without a version: the space and the parts of rest, one after another.
func AppendPlainKey(dst []byte, space byte, rest ...[]byte) []byte {
	dst = append(dst, space)
	for _, r := range rest {
		dst = append(dst, r...)
	}
	return append(dst, sentinel)
}

// PlainRest returns what AppendPlainKey was given as rest, in one piece; it aliases key. It is nil for a key that
// is too short or has a version.
func PlainRest(key []byte) []byte {
	if len(key) < 2 || key[len(key)-1] != sentinel {
		return nil
	}
	return key[1 : len(key)-1]
}

// AppendRevKey appends a key that is a space and a revision, ascending. History, count changes and large values use it.
func AppendRevKey(dst []byte, space byte, main int64, sub uint32) []byte {
	dst = append(dst, space)
	dst = binary.BigEndian.AppendUint64(dst, uint64(main))
	dst = binary.BigEndian.AppendUint32(dst, sub)
	return append(dst, sentinel)
}

// DecodeRevKey splits a key of AppendRevKey; ok is false for anything else.
func DecodeRevKey(key []byte) (main int64, sub uint32, ok bool) {
	if len(key) != revKeyBytes || key[revKeyBytes-1] != sentinel {
		return 0, 0, false
	}
	main = int64(binary.BigEndian.Uint64(key[1:]))
	return main, binary.BigEndian.Uint32(key[1+mainBytes:]), main >= 0
}

// SpaceBounds returns the half-open range of keys that is a whole space of the state. A bound of the state
// must be a key of its schema; these are. Both are the caller's.
func SpaceBounds(space byte) (lower, upper []byte) {
	return []byte{space, sentinel}, []byte{space + 1, sentinel}
}
