package raftlog

// unflushed counts what was appended since a cut had the memtable flushed.
//
// Entries are cut off soon after they were written, once what they did is durable in the state. Entries and the cut that
// deletes them in one memtable never reach a table: a flush writes only what is left. So the memtable of a log is so large
// that the cut comes before it is full, and then it is flushed.
type unflushed struct {
	least int    // bytes below which a flush is not worth its files
	bytes int    // of the batches
	last  uint64 // the last entry when they began
}

// mostlyCut tells whether a flush after a cut up to index would write less than half of the entries that were appended, of
// which the last is given.
func (u unflushed) mostlyCut(index, last uint64) bool {
	return u.bytes >= u.least && index > u.last && index-u.last > last-index
}
