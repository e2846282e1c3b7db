package e2e

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/test/process"
)

// TestLargeRangesBesideWritersAreWhole reads all keys again and again, in answers that are made while they are sent and whose length is known from the
// ones before and from history, while they are changed and compacted.
func TestLargeRangesBesideWritersAreWhole(t *testing.T) {
	t.Parallel()
	const keys, ranges = 80_000, 10 // 24 MiB
	m := newMember(t)
	s := m.start(t)
	c := m.connect(t)
	fill(t, c, keys)
	ctx, cancel := context.WithCancel(within(t, process.Patience))
	var writers, readers sync.WaitGroup
	for w := range 2 {
		writers.Go(func() {
			for i := w; ctx.Err() == nil; i += 2 {
				if err := changeLoaded(ctx, c, i); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 3 {
		readers.Go(func() {
			for range ranges {
				if err := readLoaded(ctx, c); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	readers.Wait()
	cancel()
	writers.Wait()
	noError(t, readLoaded(within(t, process.Patience), c))
	s.stop(t)

	s = m.start(t) // tables have everything, and no length is known
	c = m.connect(t)
	measured := m.blocksRead(t, c)
	checkCorrected(t, m, c, measured)
	s.stop(t)
}

// checkCorrected checks that history tells how long all keys of fill are once one of them has changed: no second walk reads what is only measured, a
// third of all here. What else goes on in the member reads blocks, too, now and then.
func checkCorrected(t *testing.T, m *member, c *clientv3.Client, measured int64) {
	t.Helper()
	var read []int64
	for i := range 20 {
		_, err := c.Put(within(t, process.Patience), loadKey(i), fmt.Sprint(i))
		noError(t, err)
		n := m.blocksRead(t, c)
		if n < measured*9/10 {
			return
		}
		read = append(read, n)
	}
	t.Errorf("where all was measured %d blocks were read, after a change %d: its length was measured again", measured, read)
}

// blocksRead reads all keys of fill and returns how many blocks of tables that took.
func (m *member) blocksRead(t *testing.T, c *clientv3.Client) int64 {
	t.Helper()
	count := func() (n int64) {
		state := m.state(t)
		for _, name := range []string{"cache_hits_total", "cache_misses_total"} {
			x, err := strconv.ParseInt(state[name], 10, 64)
			noError(t, err)
			n += x
		}
		return n
	}
	before := count()
	noError(t, readLoaded(within(t, process.Patience), c))
	return count() - before
}

// changeLoaded changes some of the keys of fill, or compacts.
func changeLoaded(ctx context.Context, c *clientv3.Client, i int) error {
	key := loadKey(i % 2000 * 37)
	switch {
	case i%100 == 99:
		now, err := c.Get(ctx, key)
		if err == nil {
			_, err = c.Compact(ctx, now.Header.Revision-500) // who reads meanwhile can still tell from the answer before how long the next one is
		}
		if errors.Is(err, rpctypes.ErrCompacted) {
			return nil // the other writer was there before
		}
		return err
	case i%5 == 1:
		_, err := c.Delete(ctx, key)
		return err
	case i%5 == 2:
		_, err := c.Txn(ctx).Then(clientv3.OpPut(key, "short"), clientv3.OpDelete(key+"x"), clientv3.OpPut(key+"y", strings.Repeat("y", i%200))).Commit()
		return err
	default:
		_, err := c.Put(ctx, key, strings.Repeat("x", i*31%9000))
		return err
	}
}

// readLoaded reads all keys of fill and compares them with their count.
func readLoaded(ctx context.Context, c *clientv3.Client) error {
	got, err := c.Get(ctx, "load/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	for i, kv := range got.Kvs {
		if i > 0 && string(got.Kvs[i-1].Key) >= string(kv.Key) || kv.ModRevision > got.Header.Revision {
			return fmt.Errorf("key %d of %d at revision %d: %s", i, len(got.Kvs), got.Header.Revision, brief(kv))
		}
	}
	counted, err := c.Get(ctx, "load/", clientv3.WithPrefix(), clientv3.WithCountOnly(), clientv3.WithRev(got.Header.Revision))
	if errors.Is(err, rpctypes.ErrCompacted) {
		counted, err = got, nil
	}
	if err == nil && (got.Count != int64(len(got.Kvs)) || got.Count != counted.Count) {
		err = fmt.Errorf("%d keys at revision %d, with the count %d; there are %d", len(got.Kvs), got.Header.Revision, got.Count, counted.Count)
	}
	return err
}
