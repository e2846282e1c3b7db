package mvcc

import (
	"cmp"
	"errors"
	"math"
)

// Revision is the place of one change in the order of all: Main is the store's revision that its log entry took, Sub
// counts the changes of that entry from 0. The zero Revision names no change.
type Revision struct {
	Main int64
	Sub  uint32
}

// maxSub and maxRevision are above every number of a change that can be read.
const (
	maxSub      = math.MaxUint32
	maxRevision = math.MaxInt64
)

// Less tells whether r comes before o.
func (r Revision) Less(o Revision) bool {
	return r.Main < o.Main || r.Main == o.Main && r.Sub < o.Sub
}

// compareRevisions is the order of Less, for sorting.
func compareRevisions(a, b Revision) int {
	if c := cmp.Compare(a.Main, b.Main); c != 0 {
		return c
	}
	return cmp.Compare(a.Sub, b.Sub)
}

// IsZero tells whether r names no change.
func (r Revision) IsZero() bool { return r == Revision{} }

var (
	// ErrCompacted is returned when a revision was asked for that compaction has made unreadable, or a
	// compaction to a revision that is compacted already.
	ErrCompacted = errors.New("required revision has been compacted")
	// ErrFutureRevision is returned when a revision above the current one was asked for.
	ErrFutureRevision = errors.New("required revision is a future revision")
	// ErrTooLarge is returned when a range that must be sorted by something other than its key holds
	// more than MaxSortBytes.
	ErrTooLarge = errors.New("range is too large to be sorted in memory")
)
