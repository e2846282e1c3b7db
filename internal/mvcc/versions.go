package mvcc

import (
	"bytes"
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// VersionReader reads many versions from a View. Asked for in the order in which they are stored, by key and of one key
// the newest first, each costs a fraction of View.At: the iterator only goes forward, and from a version to the one
// before it is a step. Any other order is served too. Nothing else of the View may be used between calls.
type VersionReader struct {
	view *View
	key  []byte   // under the iterator
	at   Revision // under the iterator
	ok   bool     // the iterator stands on a version of key
	rec  record   // of it
}

// Versions returns a reader of versions.
func (v *View) Versions() *VersionReader { return &VersionReader{view: v} }

// At is View.At. The KV is valid until the next call.
func (r *VersionReader) At(key []byte, rev Revision) (KV, bool, error) {
	if !r.ok || r.at.Less(rev) || !bytes.Equal(key, r.key) {
		if err := r.seek(key, rev); err != nil {
			return KV{}, false, err
		}
	}
	for steps := 0; r.ok && rev.Less(r.at); steps++ {
		var err error
		if steps == stepsBeforeSeek {
			err = r.seek(key, Revision{Main: rev.Main, Sub: maxSub})
		} else {
			err = r.step()
		}
		if err != nil {
			return KV{}, false, err
		}
	}
	if !r.ok || r.at != rev || !r.rec.live() {
		return KV{}, false, nil
	}
	kv, err := r.view.snap.whole(r.rec, false) // the iterator goes on from where it is
	return kv, err == nil, err
}

// seek moves to the newest version of key at or below rev's main revision.
func (r *VersionReader) seek(key []byte, rev Revision) error {
	rec, at, _, err := r.view.snap.get(key, rev.Main)
	r.ok = err == nil && !at.IsZero()
	if r.ok {
		r.key, r.at, r.rec = append(r.key[:0], key...), at, rec
	}
	return err
}

// step moves to the version before.
func (r *VersionReader) step() error {
	it := r.view.snap.it
	if r.ok = it.Next(); !r.ok {
		if err := it.Error(); err != nil {
			return fmt.Errorf("reading a version: %w", err)
		}
		return nil
	}
	raw, err := it.ValueAndErr()
	if err != nil {
		return fmt.Errorf("reading a version: %w", err)
	}
	user, main, sub, ok := storage.DecodeDataKey(it.Key())
	if !ok {
		return fmt.Errorf("%w: data key %x", storage.ErrCorrupt, it.Key())
	}
	if err := (record{raw}).standsAt(user, main, sub); err != nil {
		return err
	}
	r.at, r.rec = Revision{main, sub}, record{raw}
	return nil
}
