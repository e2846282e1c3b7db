package etcdfile

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/progress"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// gather gives all data to the sorter, in order of the keys.
func (c *Content) gather(ctx context.Context, s *sorter) error {
	lower, upper := storage.SpaceBounds(storage.SpaceData)
	var alone []byte
	line := progress.Of(ctx)
	n := 0
	for ok := c.it.SeekGE(lower); ok && storage.CompareKeys(c.it.Key(), upper) < 0; ok = c.it.Next() {
		if n++; n%contextEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		c.giveWay(n)
		user, main, sub, valid := storage.DecodeDataKey(c.it.Key())
		if !valid {
			return fmt.Errorf("%w: the data key %x", storage.ErrCorrupt, c.it.Key())
		}
		kv, _, err := c.loader.Load(c.it)
		if err != nil {
			return c.explain(err)
		}
		v := kv.Raw()
		tombstone := !kv.Exists()
		if tombstone {
			alone = appendKeyAlone(alone[:0], user)
			v = alone
		}
		line.Add(int64(len(v)))
		if err := s.add(version{mvcc.Revision{Main: main, Sub: sub}, tombstone, v, len(v)}); err != nil {
			return err
		}
	}
	return c.explain(c.it.Error())
}

// yieldEvery is after how many records a long walk lets others run: some 0.1 ms. Otherwise it would be taken from the processor only after
// 10 ms, and whoever serves a request beside it, in several steps of several goroutines, would wait so long for each.
const yieldEvery = 64

// giveWay lets others run now and then.
func (c *Content) giveWay(n int) {
	if n%yieldEvery == 0 {
		c.rest()
	}
}

// rest lets others run, for as long as Rest has it.
func (c *Content) rest() {
	if c.Rest != nil {
		c.Rest()
	} else {
		runtime.Gosched()
	}
}

// inOrder gives what is merged to put, beside a walk of history, which must hold the very same versions.
func (c *Content) inOrder(ctx context.Context, m *merger, put func(version) error) error {
	lower, upper := storage.SpaceBounds(storage.SpaceHistory)
	more := c.it.SeekGE(lower)
	for n := 1; ; n++ {
		if n%contextEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		c.giveWay(n)
		x, there, err := m.next()
		switch {
		case err != nil:
			return err
		case there:
			err = c.compare(x, more, upper)
		case more && storage.CompareKeys(c.it.Key(), upper) < 0:
			return fmt.Errorf("%w: no data for the history record %x", storage.ErrCorrupt, c.it.Key())
		default:
			return c.explain(c.it.Error())
		}
		if err != nil {
			return errors.Join(err, c.explain(c.it.Error()))
		}
		more = c.it.Next()
		if err := put(x); err != nil {
			return err
		}
	}
}

// compare tells whether history, where there is more of it, goes on with a version.
func (c *Content) compare(x version, more bool, upper []byte) error {
	if !more || storage.CompareKeys(c.it.Key(), upper) >= 0 {
		return fmt.Errorf("%w: no history record for the data of %d/%d", storage.ErrCorrupt, x.rev.Main, x.rev.Sub)
	}
	v, err := c.it.ValueAndErr()
	if err != nil {
		return c.explain(err)
	}
	r, err := mvcc.DecodeHistory(c.it.Key(), v)
	switch {
	case err != nil:
		return err
	case r.Rev.Less(x.rev):
		return fmt.Errorf("%w: no data for the history record %d/%d", storage.ErrCorrupt, r.Rev.Main, r.Rev.Sub)
	case r.Rev != x.rev || (r.Kind == mvcc.EventDelete) != x.tombstone:
		return fmt.Errorf("%w: no history record for the data of %d/%d", storage.ErrCorrupt, x.rev.Main, x.rev.Sub)
	}
	return nil
}

// appendKeyAlone appends a KeyValue that has a key only: the value of a tombstone.
func appendKeyAlone(dst, key []byte) []byte {
	if len(key) == 0 {
		return dst
	}
	return protowire.AppendBytes(protowire.AppendTag(dst, fieldFirst, protowire.BytesType), key)
}
