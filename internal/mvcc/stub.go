package mvcc

import (
	"context"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

type runList struct{}
type pageCache struct{}

func loadRuns(db *storage.DB) (*runList, error) { return &runList{}, nil }

// View is the store as it was at one moment.
type View struct{}

// View opens a view; rev 0 or less means the current revision.
func (s *Store) View(rev int64) (*View, error) { panic("not built yet") }

// Close ends the view.
func (v *View) Close() error { panic("not built yet") }

// Revision returns the revision that the view reads at.
func (v *View) Revision() int64 { panic("not built yet") }

// Current returns the store's revision when the view was opened.
func (v *View) Current() int64 { panic("not built yet") }

// Range implements Reader.
func (v *View) Range(o RangeOptions, emit func(kv KV) error) (RangeResult, error) {
	panic("not built yet")
}

// Get implements Reader.
func (v *View) Get(key []byte) (KV, bool, error) { panic("not built yet") }

// At returns the version of key that was written at exactly rev.
func (v *View) At(key []byte, rev Revision) (KV, bool, error) { panic("not built yet") }

func (v *View) loadVersion(key []byte, rev Revision) (KV, error) { panic("not built yet") }

// History gives the events of the revisions [from, to] in order.
func (v *View) History(from, to int64, fn func(Event) error) error { panic("not built yet") }

// History is View.History on a view of its own.
func (s *Store) History(from, to int64, fn func(Event) error) error { panic("not built yet") }

// Writer writes groups of entries.
type Writer struct{}

// NewWriter starts a group.
func (s *Store) NewWriter() *Writer { panic("not built yet") }

// Begin starts an entry.
func (w *Writer) Begin() { panic("not built yet") }

// End ends the entry.
func (w *Writer) End() (rev int64, changed bool) { panic("not built yet") }

// Put sets a key; prev is valid until the Writer is used again.
func (w *Writer) Put(key, value []byte, lease int64) (prev KV, existed bool, err error) {
	panic("not built yet")
}

// DeleteRange deletes the live keys of [key, end).
func (w *Writer) DeleteRange(key, end []byte, onPrev func(KV) error) (n int64, err error) {
	panic("not built yet")
}

// Range implements Reader.
func (w *Writer) Range(o RangeOptions, emit func(kv KV) error) (RangeResult, error) {
	panic("not built yet")
}

// Get implements Reader.
func (w *Writer) Get(key []byte) (KV, bool, error) { panic("not built yet") }

// Revision returns the revision of the Writer.
func (w *Writer) Revision() int64 { panic("not built yet") }

// ScheduleCompact schedules a compaction.
func (w *Writer) ScheduleCompact(rev int64) error { panic("not built yet") }

// CompactRevision is the compact revision including what the group scheduled.
func (w *Writer) CompactRevision() int64 { panic("not built yet") }

// Batch returns the batch of the group.
func (w *Writer) Batch() *storage.Batch { panic("not built yet") }

// SetApplied sets the applied index of the group.
func (w *Writer) SetApplied(index, term uint64) { panic("not built yet") }

// Events returns what the group has changed so far, in order.
func (w *Writer) Events() []Event { panic("not built yet") }

// Commit commits and publishes.
func (w *Writer) Commit() error { panic("not built yet") }

// Discard drops the group.
func (w *Writer) Discard() { panic("not built yet") }

// CompactStep does one slice of compaction.
func (s *Store) CompactStep(maxRecords int) (done bool, err error) { panic("not built yet") }

// CompactPending tells whether there is compaction to do.
func (s *Store) CompactPending() bool { panic("not built yet") }

// HashKV hashes the store as etcd does.
func (s *Store) HashKV(ctx context.Context, rev int64) (hash uint32, compactRev, hashRev int64, err error) {
	panic("not built yet")
}
