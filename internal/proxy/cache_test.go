package proxy

import (
	"fmt"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

func reading(key, end string) *etcdserverpb.RangeRequest {
	return &etcdserverpb.RangeRequest{Key: []byte(key), RangeEnd: []byte(end), Serializable: true}
}

func (c *cache) has(who identity, q *etcdserverpb.RangeRequest) bool {
	r, _ := c.get(who, q)
	return r != nil
}

func (c *cache) keep(who identity, q *etcdserverpb.RangeRequest, r *etcdserverpb.RangeResponse) {
	_, at := c.get(who, q)
	c.add(who, q, r, at)
}

func TestAnAnswerIsKeptForWhoAskedAndNotForLong(t *testing.T) {
	t.Parallel()
	now := clock.NewManual(time.Unix(0, 0))
	c := newCache(now, &measures{})
	a, b := identity{token: "a"}, identity{token: "b"}
	c.keep(a, reading("k", ""), &etcdserverpb.RangeResponse{})
	if !c.has(a, reading("k", "")) || c.has(b, reading("k", "")) || c.has(identity{leader: "true", token: "a"}, reading("k", "")) || c.has(a, reading("k", "l")) {
		t.Error("it is not kept for who asked, for what was asked")
	}
	now.Advance(cacheAgeMax)
	if c.has(a, reading("k", "")) || c.bytes != 0 || len(c.points) != 0 {
		t.Error("it is kept for too long")
	}
}

func TestAWriteForgetsWhatItTouches(t *testing.T) {
	t.Parallel()
	for name, w := range map[string]struct {
		key, end string
		left     []string // of k, kk, [j,l), all from k on
	}{
		"a key":                       {"k", "", []string{"kk"}},
		"a key below":                 {"a", "", []string{"k", "kk", "j l"}},
		"a key beside":                {"z", "", []string{"k", "kk", "j l"}},
		"a range":                     {"kk", "kz", []string{"k"}},
		"a range that ends before":    {"a", "j", []string{"k", "kk", "j l", "k \x00"}},
		"a range with its end in one": {"a", "jj", []string{"k", "kk", "k \x00"}},
		"all keys":                    {"\x00", "\x00", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCache(clock.NewManual(time.Unix(0, 0)), &measures{})
			all := map[string]*etcdserverpb.RangeRequest{"k": reading("k", ""), "kk": reading("kk", ""), "j l": reading("j", "l"), "k \x00": reading("k", "\x00")}
			for _, q := range all {
				c.keep(identity{}, q, &etcdserverpb.RangeResponse{})
			}
			want := map[string]bool{}
			for _, k := range w.left {
				want[k] = true
			}
			if name == "a key beside" || name == "a key below" {
				want["k \x00"] = name == "a key below"
			}
			c.forget([]byte(w.key), []byte(w.end))
			for k, q := range all {
				if c.has(identity{}, q) != want[k] {
					t.Errorf("%q is kept: %v", k, !want[k])
				}
			}
		})
	}
}

func TestAnAnswerFromBeforeAWriteIsNotKept(t *testing.T) {
	t.Parallel()
	c := newCache(clock.NewManual(time.Unix(0, 0)), &measures{})
	_, at := c.get(identity{}, reading("k", ""))
	c.forget([]byte("k"), nil)
	c.add(identity{}, reading("k", ""), &etcdserverpb.RangeResponse{}, at)
	if c.has(identity{}, reading("k", "")) {
		t.Error("it is kept")
	}
}

func TestTheCacheIsBounded(t *testing.T) {
	t.Parallel()
	m := &measures{}
	c := newCache(clock.NewManual(time.Unix(0, 0)), m)
	for i := range 2 * cacheEntriesMax {
		c.keep(identity{}, reading(fmt.Sprint("k", i), ""), &etcdserverpb.RangeResponse{})
	}
	if len(c.entries) != cacheEntriesMax || len(c.points) != cacheEntriesMax || m.keys.Load() != cacheEntriesMax {
		t.Errorf("%d answers", len(c.entries))
	}
	if c.has(identity{}, reading("k0", "")) || !c.has(identity{}, reading(fmt.Sprint("k", 2*cacheEntriesMax-1), "")) {
		t.Error("not the oldest went")
	}
	large := &etcdserverpb.RangeResponse{Kvs: []*mvccpb.KeyValue{{Value: make([]byte, cacheEntryMax/2)}}}
	for i := range 200 {
		c.keep(identity{}, reading(fmt.Sprint("l", i), "m"), large)
	}
	if c.bytes > cacheBytesMax || len(c.ranges) > 2*cacheBytesMax/cacheEntryMax {
		t.Errorf("%d bytes", c.bytes)
	}
	c.keep(identity{}, reading("huge", ""), &etcdserverpb.RangeResponse{Kvs: []*mvccpb.KeyValue{{Value: make([]byte, cacheEntryMax)}}})
	if c.has(identity{}, reading("huge", "")) {
		t.Error("a huge answer is kept")
	}
	c.clear()
	if c.bytes != 0 || len(c.entries)+len(c.points)+len(c.ranges) != 0 || m.keys.Load() != 0 {
		t.Errorf("after all is dropped: %d bytes", c.bytes)
	}
}
