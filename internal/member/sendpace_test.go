package member

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/pacing"
	"github.com/ashlar-kv/ashlar/internal/snapshot"
)

func TestARestFollowsFromTheWork(t *testing.T) {
	t.Parallel()
	small := slice{records: 2000, bytes: 256 << 10}
	large := slice{records: 12, bytes: 256 << 10}
	cases := map[string]struct {
		slice      slice
		worked     time.Duration
		processors int
		want       time.Duration
	}{
		"one of two processors works a part of both": {small, 200 * time.Microsecond, 2, 3 * time.Millisecond},
		"a sole one":                         {small, 100 * time.Microsecond, 1, 3100 * time.Microsecond},
		"one of eight works a quarter of it": {small, 500 * time.Microsecond, 8, 1500 * time.Microsecond},
		"a slow slice of many records":       {small, time.Second, 2, 2000*sendRecordMax + 256<<10*sendByteMax},
		"a slow slice of large values":       {large, time.Second, 2, 12*sendRecordMax + 256<<10*sendByteMax},
		"there are many":                     {small, time.Second, sendShare, 0},
		"there are more":                     {small, time.Second, 2 * sendShare, 0},
		"the clock stands still":             {small, 0, 2, 0},
		"the clock was set back meanwhile":   {small, -time.Second, 4, -7 * time.Second},
	}
	for name, c := range cases {
		c.slice.worked = c.worked
		if got := c.slice.rest(c.processors); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

const (
	pacedPuts  = 400
	pacedBytes = 2000
)

// sendPaced reads a state of some slices, while requests come or not, and returns how much of it there was.
func sendPaced(t *testing.T, c *clock.Moving, asked func() uint64) int64 {
	t.Helper()
	m := open(t, configOf(t, vfs.NewCrashableMem(), alone))
	defer stop(t, m)
	step(m)
	value := string(make([]byte, pacedBytes))
	for range pacedPuts {
		putStepped(t, m, "k", value)
	}
	r, err := snapshot.NewReader(m.gen.Load().db)
	if err != nil {
		t.Fatal(err)
	}
	s := m.paced(r)
	if asked == nil {
		asked = m.asked
	}
	s.clock, s.processors, s.Demand = c, 2, pacing.NewDemand(asked, c.Now())
	n, err := io.Copy(io.Discard, s)
	if err != nil || n < pacedPuts*pacedBytes {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAStateOnItsWayRestsAfterEachSliceWhileRequestsCome(t *testing.T) {
	t.Parallel()
	c := &clock.Moving{Manual: clock.NewManual(time.Unix(1_700_000_000, 0)), Step: 2 * pacing.QuietFor}
	var requests uint64
	n := sendPaced(t, c, func() uint64 { requests++; return requests })
	if got, want := len(c.Rests), int(n/(sendSlice+4096)); got < want {
		t.Errorf("%d rests for %d bytes, want %d at least", got, n, want)
	}
	// Each put is three records at most, and a slice has a record more than its size at most.
	most := 3*pacedPuts*sendRecordMax + 2*sendSlice*sendByteMax
	for _, d := range c.Rests {
		if d <= 0 || d > most {
			t.Errorf("a rest of %s, want %s at most", d, most)
		}
	}
}

func TestAStateOnItsWayRestsForAWhileAfterTheLastRequest(t *testing.T) {
	t.Parallel()
	c := &clock.Moving{Manual: clock.NewManual(time.Unix(1_700_000_000, 0)), Step: time.Nanosecond}
	if sendPaced(t, c, nil); len(c.Rests) == 0 {
		t.Error("it does not rest, although there was a request just now")
	}
}

func TestAStateOnItsWayDoesNotRestWhileNobodyAsks(t *testing.T) {
	t.Parallel()
	c := &clock.Moving{Manual: clock.NewManual(time.Unix(1_700_000_000, 0)), Step: 2 * pacing.QuietFor}
	if sendPaced(t, c, nil); len(c.Rests) > 0 {
		t.Errorf("it rests %s", c.Rests)
	}
}

func TestPutsAndReadsAreRequestsToASender(t *testing.T) {
	t.Parallel()
	m := open(t, configOf(t, vfs.NewCrashableMem(), alone))
	defer stop(t, m)
	step(m)
	before := m.asked()
	putStepped(t, m, "k", "v")
	put := m.asked()
	v, err := m.View(0)
	if err != nil {
		t.Fatal(err)
	}
	v.Close()
	if read := m.asked(); put == before || read == put {
		t.Errorf("before %d, after a put %d, after a read %d", before, put, read)
	}
}

func TestACompactionIsNoRequest(t *testing.T) {
	t.Parallel()
	m := open(t, configOf(t, vfs.NewCrashableMem(), alone)) // not started: the compactor does not run
	defer stop(t, m)
	step(m)
	for i := range 10 {
		putStepped(t, m, "k", fmt.Sprint(i))
	}
	p, err := m.Begin(apply.CommandCompaction, encoded(t, &etcdserverpb.CompactionRequest{Revision: 10}))
	if err != nil {
		t.Fatal(err)
	}
	step(m)
	if r, ok := p.Poll(); !ok || r.Err != nil {
		t.Fatal(ok, r.Err)
	}
	before := m.asked()
	if more, err := m.compactor.step(); more || err != nil || m.Store().CompactPending() {
		t.Fatal(more, err)
	}
	if after := m.asked(); after != before {
		t.Errorf("before %d, after a slice %d", before, after)
	}
}

func TestAStoppingMemberDoesNotRest(t *testing.T) {
	t.Parallel()
	stopped := make(chan struct{})
	close(stopped)
	s := &pacedState{clock: clock.NewManual(time.Unix(1_700_000_000, 0)), stop: stopped}
	s.rest(time.Hour) // returns, although the clock stands still
}
