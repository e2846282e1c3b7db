package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/test/process"
)

// ratioRounds is how many times two servers take turns. A machine that is busy with other work disturbs both alike then.
const ratioRounds = 9

// ratioClients are the clients of each server, on connectionsMax connections.
const ratioClients = 1000

// side is one of two servers that are compared.
type side struct {
	m           *member
	s           *server
	connections []*clientv3.Client
}

// newSide starts a server with keys and connects to it; as is the client's login.
func newSide(b *testing.B, m *member, prepare func(c *clientv3.Client), as func() (*clientv3.Client, error)) *side {
	b.Helper()
	x := &side{m: m, s: m.start(b)}
	c := m.connect(b)
	fill(b, c, *keysFlag)
	prepare(c)
	for range connectionsMax {
		c, err := as()
		noError(b, err)
		b.Cleanup(func() { c.Close() })
		_, err = c.Get(b.Context(), loadKey(0))
		noError(b, err)
		x.connections = append(x.connections, c)
	}
	return x
}

// run makes n requests and returns how many a second, and the server's CPU time for one.
func (x *side) run(b *testing.B, n int, request func(ctx context.Context, c *clientv3.Client) error) (rate float64, cpu time.Duration) {
	b.Helper()
	var next atomic.Int64
	var running sync.WaitGroup
	before, err := process.CPUTime(x.s.PID())
	noError(b, err)
	begin := time.Now()
	for client := range ratioClients {
		running.Go(func() {
			for next.Add(1) <= int64(n) {
				if err := request(b.Context(), x.connections[client%len(x.connections)]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
	took := time.Since(begin)
	after, err := process.CPUTime(x.s.PID())
	noError(b, err)
	return float64(n) / took.Seconds(), (after - before) / time.Duration(n)
}

// compare has both sides serve b.N puts and then b.N gets in turns, and reports the medians of the rounds: the rate of x against that
// of base, the same of the CPU of a request, and the rates themselves.
func compare(b *testing.B, base, x *side) {
	value := loadValue(0)
	for _, kind := range []struct {
		name    string
		request func(ctx context.Context, c *clientv3.Client) error
	}{
		{"put", func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.Put(ctx, loadKey(rand.IntN(*keysFlag)), value)
			return err
		}},
		{"get", func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.Get(ctx, loadKey(rand.IntN(*keysFlag)))
			return err
		}},
	} {
		b.Run(kind.name, func(b *testing.B) {
			n := max(b.N/ratioRounds, ratioClients)
			var rates, cpus, first, second []float64
			for round := range ratioRounds {
				var r [2]float64
				var cpu [2]time.Duration
				for turn := range 2 {
					i := (turn + round) % 2 // neither is always the first
					r[i], cpu[i] = []*side{base, x}[i].run(b, n, kind.request)
				}
				rates, cpus = append(rates, r[1]/r[0]), append(cpus, float64(cpu[1])/float64(cpu[0]))
				first, second = append(first, r[0]), append(second, r[1])
			}
			for _, all := range [][]float64{rates, cpus, first, second} {
				slices.Sort(all)
			}
			b.ReportMetric(rates[len(rates)/2], "rate-ratio")
			b.ReportMetric(rates[0], "min-rate-ratio")
			b.ReportMetric(rates[len(rates)-1], "max-rate-ratio")
			b.ReportMetric(cpus[len(cpus)/2], "cpu-ratio")
			b.ReportMetric(first[len(first)/2], "base/s")
			b.ReportMetric(second[len(second)/2], "this/s")
		})
	}
}

// nothing is no preparation.
func nothing(*clientv3.Client) {}

// BenchmarkMTLSAgainstClear compares clients with certificates with clients in the clear.
func BenchmarkMTLSAgainstClear(b *testing.B) {
	clear, e := newMember(b), newEncrypted(b, true)
	base := newSide(b, clear, nothing, func() (*clientv3.Client, error) { return newClient(clear) })
	x := newSide(b, e.member, nothing, func() (*clientv3.Client, error) { return newClient(e.member) })
	compare(b, base, x)
	base.s.stop(b)
	x.s.stop(b)
}

// BenchmarkAuthAgainstNone compares a user with a thousand roles with nobody at a server without authentication.
func BenchmarkAuthAgainstNone(b *testing.B) {
	open, closed := newMember(b), newMember(b)
	base := newSide(b, open, nothing, func() (*clientv3.Client, error) { return newClient(open) })
	x := newSide(b, closed, func(c *clientv3.Client) {
		ctx := b.Context()
		for i := range 1000 {
			role := fmt.Sprintf("role-%d", i)
			_, err := c.RoleAdd(ctx, role)
			noError(b, err)
			// Each role has a piece of the keys.
			from, to := loadKey(i**keysFlag/1000), loadKey((i+1)**keysFlag/1000)
			_, err = c.RoleGrantPermission(ctx, role, from, to, clientv3.PermissionType(clientv3.PermReadWrite))
			noError(b, err)
		}
		for _, user := range []string{"root", "u"} {
			_, err := c.UserAdd(ctx, user, "pw")
			noError(b, err)
		}
		for i := range 1000 {
			_, err := c.UserGrantRole(ctx, "u", fmt.Sprintf("role-%d", i))
			noError(b, err)
		}
		_, err := c.UserGrantRole(ctx, "root", "root")
		noError(b, err)
		_, err = c.AuthEnable(ctx)
		noError(b, err)
	}, func() (*clientv3.Client, error) { return closed.login("u", "pw") })
	compare(b, base, x)
	base.s.stop(b)
	x.s.stop(b)
}
