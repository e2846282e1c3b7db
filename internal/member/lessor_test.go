package member

import (
	"errors"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// leased is a member whose loops and clock the test moves.
type leased struct {
	*Member
	t     testing.TB
	clock *clock.Manual
}

// newLeased opens a member on a disk and makes it the primary, if it can be.
func newLeased(t testing.TB, disk storage.FS, change func(*Config)) *leased {
	t.Helper()
	x := &leased{t: t, clock: clock.NewManual(time.Unix(1_000_000, 0))}
	cfg := configOf(t, disk, alone)
	cfg.Clock, cfg.MaxRequestBytes = x.clock, 1<<20
	cfg.TickInterval, cfg.ElectionTicks = 100*time.Millisecond, 10
	if change != nil {
		change(&cfg)
	}
	x.Member = open(t, cfg)
	x.settle()
	return x
}

// settle lets all loops run until nothing is left to do at this time.
func (x *leased) settle() {
	for range 3 {
		step(x.Member)
		x.LeaseStep()
	}
	step(x.Member)
}

// pass lets time pass in small steps, as the lessor's own loop sees it.
func (x *leased) pass(d time.Duration) {
	const little = 250 * time.Millisecond
	for ; d > 0; d -= little {
		x.clock.Advance(min(d, little))
		x.settle()
	}
}

func (x *leased) do(cmd apply.Command, r proto.Message) apply.Result {
	x.t.Helper()
	p, err := x.Begin(cmd, encoded(x.t, r))
	if err != nil {
		x.t.Fatal(err)
	}
	step(x.Member)
	res, ok := p.Poll()
	if !ok {
		x.t.Fatalf("%s was not decided", cmd)
	}
	return res
}

func (x *leased) grant(id, ttl int64) {
	x.t.Helper()
	if res := x.do(apply.CommandLeaseGrant, &etcdserverpb.LeaseGrantRequest{ID: id, TTL: ttl}); res.Err != nil {
		x.t.Fatal(res.Err)
	}
}

func (x *leased) renew(id int64) (int64, error) {
	x.t.Helper()
	r := x.BeginLeaseRenew(id)
	for range 5 {
		step(x.Member)
		if ttl, wait, err := r.Poll(); wait == nil {
			return ttl, err
		}
	}
	return 0, errUndecided
}

var errUndecided = errors.New("not decided")

// left returns the ids of the leases that are there.
func (x *leased) left() (ids []int64) {
	for _, l := range x.leases().List() {
		ids = append(ids, l.ID)
	}
	return ids
}

func (x *leased) wantLeft(when string, want ...int64) {
	x.t.Helper()
	if got := x.left(); !slices.Equal(got, want) {
		x.t.Errorf("%s: the leases %v are left, want %v", when, got, want)
	}
}
