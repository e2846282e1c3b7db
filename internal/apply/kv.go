package apply

import (
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// Fields of the response messages; 1 is the header in all of them.
const (
	putPrevKV     = 2
	deleteDeleted = 2
	deletePrevKVs = 3
	rangeKVs      = 2
	rangeMore     = 3
	rangeCount    = 4
)

// put applies a PutRequest by itself.
func (g *group) put(raw []byte, want bool) ([]byte, error) {
	p, err := ParsePut(raw)
	if err != nil {
		return nil, err
	}
	c := g.checker()
	if err := c.put(&p); err != nil {
		g.m.counts.did(c.looked, 0)
		return nil, err
	}
	g.m.counts.did(c.looked, 1)
	return write(g.w, &p, want, g.m.counts)
}

// write carries out p and returns the body of its response. REQUIRES: p was checked.
func write(w *mvcc.Writer, p *Put, want bool, counts *Counts) (body []byte, err error) {
	value, lease := p.Value, p.Lease
	if p.IgnoreValue || p.IgnoreLease {
		get := w.Head
		if p.IgnoreValue {
			get = w.Get
		}
		old, _, err := get(p.Key)
		if err != nil {
			return nil, err
		}
		// The old version is valid only until the writer is used again. Should there be none (see
		// checker.gone), what is kept is empty.
		old = old.Clone()
		if p.IgnoreValue {
			value = old.Value()
		}
		if p.IgnoreLease {
			lease = old.Lease()
		}
	}
	counts.Puts.Inc()
	counts.PutBytes.Add(uint64(len(p.Key) + len(value)))
	if !want || !p.PrevKV {
		return nil, w.PutBlind(p.Key, value, lease)
	}
	prev, existed, err := w.Put(p.Key, value, lease)
	if err != nil {
		return nil, err
	}
	if existed {
		body = appendField(nil, putPrevKV, prev.Raw())
	}
	return body, nil
}

// deleteRange applies a DeleteRangeRequest by itself.
func (g *group) deleteRange(raw []byte, want bool) ([]byte, error) {
	d, err := ParseDeleteRange(raw)
	if err != nil {
		return nil, err
	}
	g.m.counts.did(d.reads(), 1)
	body, unread, err := erase(g.w, &d, want, answerMax, g.m.counts)
	g.unread = unread
	return body, err
}

// erase carries out d and returns the body of its response, which may have about max bytes: unread is ErrTooLarge, beside no body, when it would have
// more. The deletion has happened then, as on the members where nobody waits.
func erase(w *mvcc.Writer, d *DeleteRange, want bool, max int, counts *Counts) (body []byte, unread, err error) {
	var prev []byte
	var onPrev func(mvcc.KV) error
	if want && d.PrevKV {
		onPrev = func(kv mvcc.KV) error {
			if unread == nil && len(prev)+len(kv.Raw()) > max {
				prev, unread = nil, ErrTooLarge
			}
			if unread == nil {
				prev = appendField(prev, deletePrevKVs, kv.Raw())
			}
			return nil
		}
	}
	counts.Deletes.Inc()
	n, err := w.DeleteRange(d.Key, rangeEnd(d.RangeEnd), onPrev)
	if err != nil || !want || unread != nil {
		return nil, unread, err
	}
	return append(appendNumber(nil, deleteDeleted, n), prev...), nil, nil
}

// rangeEnd turns a request's range end into the store's: absent means one key.
func rangeEnd(end []byte) []byte {
	if len(end) == 0 {
		return nil
	}
	return end
}

// fromKeyOn tells whether a range end stands for all keys from the range's key on.
func fromKeyOn(end []byte) bool { return len(end) == 1 && end[0] == 0 }

// Options returns what the store is to read for r.
func (r *Range) Options() mvcc.RangeOptions {
	return mvcc.RangeOptions{
		Key: r.Key, End: rangeEnd(r.RangeEnd), Rev: r.Revision, Limit: r.Limit,
		Order: mvcc.SortOrder(r.SortOrder), Target: mvcc.SortTarget(r.SortTarget),
		KeysOnly: r.KeysOnly, CountOnly: r.CountOnly,
		MinMod: r.MinMod, MaxMod: r.MaxMod, MinCreate: r.MinCreate, MaxCreate: r.MaxCreate,
	}
}

// fieldHead is the most that tag and length of a field take.
const fieldHead = 11

// AppendRange reads r and appends the body of its RangeResponse, which may have about max bytes. rev is the revision for
// the response's header. hold, when not nil, is called before that many more bytes are held. Errors are its own, those of
// mvcc.Reader.Range and ErrTooLarge; dst is returned with them.
func AppendRange(dst []byte, from mvcc.Reader, r *Range, max int, hold func(bytes int) error) (body []byte, rev int64, err error) {
	body = dst
	o := r.Options()
	o.Hold = hold
	res, err := from.Range(o, func(kv mvcc.KV) error {
		if len(body)-len(dst)+len(kv.Raw()) > max {
			return ErrTooLarge
		}
		if n := len(body) + len(kv.Raw()) + fieldHead; hold != nil && n > cap(body) {
			grown := n + n/4
			if err := hold(grown - cap(body)); err != nil {
				return err
			}
			body = append(make([]byte, 0, grown), body...)
		}
		body = appendField(body, rangeKVs, kv.Raw())
		return nil
	})
	if err != nil {
		return dst, 0, err
	}
	body = appendFlag(body, rangeMore, res.More)
	body = appendNumber(body, rangeCount, res.Count)
	return body, res.Rev, nil
}
