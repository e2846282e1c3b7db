package storage

import (
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2/cockroachkvs"
)

// CompareKeys orders keys of the state as the database does: by prefix, and the
// versions of one prefix from the newest to the oldest. Both must be valid.
func CompareKeys(a, b []byte) int { return cockroachkvs.Compare(a, b) }

// ValidKey says whether a key that came from outside is one that the state may
// hold: Pebble itself must never be given another.
func ValidKey(key []byte) bool {
	if len(key) < 2 {
		return false
	}
	switch key[0] {
	case SpaceData:
		_, _, _, ok := DecodeDataKey(key)
		return ok
	case SpaceHistory, SpaceCounts, SpaceLarge:
		_, _, ok := DecodeRevKey(key)
		return ok
	case SpaceMembers, SpaceRemoved:
		return len(key) == 1+8+1 && key[9] == sentinel && binary.BigEndian.Uint64(key[1:]) != 0
	case SpaceLeases:
		return len(key) == 1+8+1 && key[9] == sentinel
	case SpaceAttachments:
		return len(key) > 1+8+1 && key[len(key)-1] == sentinel
	case SpaceRuns, SpaceMeta, SpaceAuth, SpaceAlarms:
		return key[len(key)-1] == sentinel
	default:
		return false
	}
}
