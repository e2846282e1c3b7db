package storage

// GiveBack gives back the space of a file that has no name any more and is size bytes long, from its end on, with a rest behind each piece: shrink
// makes the file no longer than to. Where it can not, the rest is given back when the file is closed.
func GiveBack(size, piece int64, shrink func(to int64) error, rest func()) {
	for size > 0 {
		size = max(0, size-piece)
		if shrink(size) != nil {
			return
		}
		rest()
	}
}
