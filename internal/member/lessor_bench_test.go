package member

import (
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/ashlar-kv/ashlar/internal/apply"
)

// BenchmarkLeasesEnd revokes leases with one key each, as many at a time as the lessor does.
func BenchmarkLeasesEnd(b *testing.B) {
	cfg := configOf(b, nil, alone)
	cfg.DataDir, cfg.MaxRequestBytes = b.TempDir(), 1<<20
	m := start(b, cfg)
	defer stop(b, m)
	pipeline := func(n int, begin func(id int64) (*Pending, error)) {
		pending := make(chan *Pending, endingMax)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for p := range pending {
				if _, err := p.wait(b.Context()); err != nil {
					b.Error(err)
				}
			}
		}()
		for id := range int64(n) {
			p, err := begin(id + 1)
			if err != nil {
				b.Fatal(err)
			}
			pending <- p
		}
		close(pending)
		<-done
	}
	pipeline(b.N, func(id int64) (*Pending, error) {
		return m.Begin(apply.CommandLeaseGrant, encoded(b, &etcdserverpb.LeaseGrantRequest{ID: id, TTL: 10_000}))
	})
	pipeline(b.N, func(id int64) (*Pending, error) {
		return m.Begin(apply.CommandPut, encoded(b, &etcdserverpb.PutRequest{Key: []byte(fmt.Sprint("leased/", id)), Value: []byte("v"), Lease: id}))
	})
	b.ResetTimer()
	pipeline(b.N, func(id int64) (*Pending, error) {
		return m.beginUrgent(m.itself(), apply.CommandLeaseRevoke, encoded(b, &etcdserverpb.LeaseRevokeRequest{ID: id}))
	})
}
