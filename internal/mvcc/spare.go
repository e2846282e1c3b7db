package mvcc

// spare is memory that one group after another uses. The Store holds it, for who holds the Writer.
//
// Whose memory is whose:
//
//  1. Keys and versions that a group writes go out with its events, to whoever keeps those. No byte of theirs is written twice: what a
//     group has left of a piece of versions is for the groups after it. This holds for a group that was discarded, too.
//  2. The slice of a group's events belongs to whoever asked for it, until it is given back (Writer.Release).
//  3. All else is seen by the Writer alone, and by the goroutines that read ahead for it, which end with the group. It is emptied when
//     the group ends, so that it holds on to no version.
type spare struct {
	versions heap
	over     overlay
	expected []expectedKey
	keys     []aheadKey
	events   []Event
}

// spareMax is how many elements a slice may have room for that is kept.
const spareMax = 1024

// emptied returns the memory of a slice whose elements nobody needs, nil when it is too much to be kept.
func emptied[E any](s []E) []E {
	if cap(s) > spareMax {
		return nil
	}
	clear(s)
	return s[:0]
}
