package e2e

import (
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/test/process"
)

// TestHistoryIsCompactedAsTimeGoesBy reads an old revision until it is compacted, and finds the newest values there.
func TestHistoryIsCompactedAsTimeGoesBy(t *testing.T) {
	t.Parallel()
	m := newMember(t, "--auto-compaction-retention=1s")
	s := m.start(t)
	c, ctx := m.connect(t), within(t, process.Patience)
	_, err := c.Put(ctx, "k", "first")
	noError(t, err)
	second, err := c.Put(ctx, "k", "second")
	noError(t, err)
	old := second.Header.Revision - 1
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		_, err := c.Get(ctx, "k", clientv3.WithRev(old))
		if errors.Is(err, rpctypes.ErrCompacted) {
			break
		}
		noError(t, err)
	}
	got, err := c.Get(ctx, "k")
	noError(t, err)
	if string(got.Kvs[0].Value) != "second" || got.Header.Revision != second.Header.Revision {
		t.Errorf("after the compaction: got %s at revision %d", brief(got.Kvs[0]), got.Header.Revision)
	}
	s.stop(t)
}
