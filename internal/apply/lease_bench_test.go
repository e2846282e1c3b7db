package apply

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// BenchmarkRevoke ends leases with one key each, out of as many; an operation is one lease. In etcd's format each is an
// entry by itself; here they come in groups, as they do when many end at once.
//
//	go test ./internal/apply -run '^$' -bench Revoke -benchtime 100000x
func BenchmarkRevoke(b *testing.B) {
	for _, order := range []string{"up", "down", "mixed"} {
		b.Run("order="+order, func(b *testing.B) {
			l := newLab(b)
			ids := make([]int64, b.N)
			for i := range ids {
				ids[i] = int64(i) + 1
			}
			l.applyAll(l.entries(b.N, func(i int) (Command, proto.Message) { return CommandLeaseGrant, grant(ids[i], 60) }))
			l.applyAll(l.entries(b.N, func(i int) (Command, proto.Message) {
				return CommandPut, on(ids[i], put(fmt.Sprintf("/registry/events/default/%08d", i), "value"))
			}))
			l.check(l.db.Flush())
			switch order {
			case "down":
				slices.Reverse(ids)
			case "mixed":
				rand.New(rand.NewPCG(1, 2)).Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
			}
			revokes := l.entries(b.N, func(i int) (Command, proto.Message) { return CommandLeaseRevoke, revoke(ids[i]) })
			b.ReportAllocs()
			b.ResetTimer()
			l.applyAll(revokes)
			b.StopTimer()
			if n := l.leases.Len(); n != 0 || l.text() != "" {
				b.Fatalf("%d leases are left, and the keys %s", n, l.text())
			}
		})
	}
}

// BenchmarkRevokeOne ends one lease with many keys: an operation is one key, all are one entry.
//
//	go test ./internal/apply -run '^$' -bench RevokeOne -benchtime 1000000x
func BenchmarkRevokeOne(b *testing.B) {
	l := newLab(b)
	l.applyAll(l.entries(1, func(int) (Command, proto.Message) { return CommandLeaseGrant, grant(1, 60) }))
	l.applyAll(l.entries(b.N, func(i int) (Command, proto.Message) {
		return CommandPut, on(1, put(fmt.Sprintf("/registry/events/default/%08d", i), "value"))
	}))
	l.check(l.db.Flush())
	revokes := l.entries(1, func(int) (Command, proto.Message) { return CommandLeaseRevoke, revoke(1) })
	b.ReportAllocs()
	b.ResetTimer()
	l.applyAll(revokes)
	b.StopTimer()
	if l.leases.Len() != 0 || l.text() != "" {
		b.Fatalf("keys are left: %.1000s", l.text())
	}
}

// BenchmarkGrant grants leases.
func BenchmarkGrant(b *testing.B) {
	l := newLab(b)
	grants := l.entries(b.N, func(i int) (Command, proto.Message) { return CommandLeaseGrant, grant(int64(i)+1, 60) })
	b.ReportAllocs()
	b.ResetTimer()
	l.applyAll(grants)
}

// BenchmarkPutOnLease puts over 100,000 keys, on leases.
func BenchmarkPutOnLease(b *testing.B) {
	const leases, keys = 999, 100_000
	for name, which := range map[string]func(i int) int{
		"another than before": func(i int) int { return i },
		"the same as before":  func(i int) int { return i % keys },
	} {
		b.Run(name, func(b *testing.B) {
			l := newLab(b)
			l.applyAll(l.entries(leases, func(i int) (Command, proto.Message) { return CommandLeaseGrant, grant(int64(i)+1, 60) }))
			puts := l.entries(b.N, func(i int) (Command, proto.Message) {
				return CommandPut, on(int64(which(i)%leases)+1, put(fmt.Sprintf("/registry/events/default/%08d", i%keys), "value"))
			})
			b.ReportAllocs()
			b.ResetTimer()
			l.applyAll(puts)
		})
	}
}

// entries makes n entries.
func (l *lab) entries(n int, request func(i int) (Command, proto.Message)) []*raftpb.Entry {
	l.t.Helper()
	out := make([]*raftpb.Entry, n)
	for i := range out {
		out[i] = l.entry(request(i))
	}
	return out
}

// applyAll applies entries, of which none may be refused.
func (l *lab) applyAll(entries []*raftpb.Entry) {
	l.t.Helper()
	l.check(l.m.Apply(entries, func(uint64) bool { return true }, func(_ uint64, r Result) { l.check(r.Err) }))
}
