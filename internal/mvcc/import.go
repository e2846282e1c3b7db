package mvcc

import (
	"errors"
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// importBatchBytes is about how much an Importer writes in one batch.
const importBatchBytes = 4 << 20

// errImportOrder is returned for versions that are not in order.
var errImportOrder = errors.New("versions are out of order")

// Importer fills an empty state with versions from elsewhere. It belongs to one goroutine; after an error the state is to be
// thrown away. Nothing is durable before the database is flushed.
type Importer struct {
	db        *storage.DB
	batch     *storage.Batch
	base      snapshot             // what earlier batches wrote
	fresh     map[string]importing // what this one did
	bytes     int
	compacted int64
	last      Revision
	written   int64
}

// importing is a key's newest version so far.
type importing struct {
	at   Revision
	size int // 0 for a tombstone
}

// NewImporter returns one for a state whose versions were compacted to a revision, a negative one for never.
func NewImporter(db *storage.DB, compacted int64) (*Importer, error) {
	im := &Importer{db: db, compacted: compacted}
	return im, im.begin()
}

func (im *Importer) begin() (err error) {
	im.batch, im.fresh, im.bytes = im.db.NewBatch(), make(map[string]importing), 0
	im.base, err = openSnapshot(&Store{db: im.db}, nil)
	return err
}

// Close gives up what is not committed. It may follow Finish.
func (im *Importer) Close() error {
	if im.batch == nil {
		return nil
	}
	err := errors.Join(im.base.close(), im.batch.Close())
	im.batch = nil
	return err
}

// Add writes one version, which follows all those before.
func (im *Importer) Add(rev Revision, kv KV, tombstone bool) error {
	if !im.last.Less(rev) {
		return fmt.Errorf("%w: %v after %v", errImportOrder, rev, im.last)
	}
	im.last = rev
	f := kv.fields()
	old, err := im.before(f, tombstone)
	if err != nil {
		return err
	}
	now := importing{at: rev}
	kind, raw := EventPut, []byte(nil)
	if tombstone {
		kind = EventDelete
	} else {
		raw = f.append(nil)
		now.size = len(raw)
	}
	prev := old.at
	if old.size == 0 {
		prev = Revision{} // there was none, or a tombstone
	}
	err = errors.Join(writeData(im.batch, f.key, rev, raw), writeHistory(im.batch, kind, f.key, rev, prev, old.size))
	if created := !tombstone && f.version == 1; rev.Main > im.compacted && (created || tombstone) {
		err = errors.Join(err, writeCountChange(im.batch, kind, f.key, rev))
	}
	if err != nil {
		return err
	}
	im.fresh[string(f.key)] = now
	size := versionBytes(f.key, now.size)
	im.written += size
	if im.bytes += int(size); im.bytes >= importBatchBytes {
		return im.commit()
	}
	return nil
}

// before returns the version before one of the same key.
func (im *Importer) before(f fields, tombstone bool) (importing, error) {
	if !tombstone && f.version == 1 {
		return importing{}, nil // it was created, or created anew
	}
	if old, ok := im.fresh[string(f.key)]; ok {
		return old, nil
	}
	r, at, live, err := im.base.get(f.key, maxRevision)
	if err != nil || !live {
		return importing{}, err
	}
	return importing{at: at, size: r.size()}, nil
}

func (im *Importer) commit() error {
	err := im.db.Commit(im.batch)
	if err = errors.Join(err, im.Close()); err != nil {
		return fmt.Errorf("import versions: %w", err)
	}
	return im.begin()
}

// Imported says how an import ends.
type Imported struct {
	// Index and Term are those of the last entry applied.
	Index, Term uint64
	// Scheduled is the revision compacted to and Finished to which one the compaction has ended, negative for never.
	Scheduled, Finished int64
	// Revision is one that the store's is not below, beside those of its versions; 0 for none.
	Revision int64
}

// Finish writes what else the key-value part of a state has, and returns its revision.
func (im *Importer) Finish(x Imported) (revision int64, err error) {
	revision = max(1, im.last.Main, x.Scheduled, x.Revision)
	set := func(name string, numbers ...uint64) {
		err = errors.Join(err, im.batch.Set(metaKey(name), encodeNumbers(numbers...), nil))
	}
	set(metaApplied, x.Index, x.Term, uint64(revision))
	set(metaSizeWritten, uint64(im.written))
	if x.Scheduled >= 0 {
		set(metaCompactScheduled, uint64(x.Scheduled))
	}
	if x.Finished >= 0 {
		set(metaCompactDone, uint64(x.Finished), maxSub)
	}
	if err != nil {
		return 0, err
	}
	return revision, im.commit()
}
