package raftlog

import (
	"bytes"
	"fmt"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// BenchmarkAppend is one append and sync of as many entries of 300 bytes as were waiting, on a real directory. It
// cuts the log as a member would.
func BenchmarkAppend(b *testing.B) {
	for _, waiting := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("waiting=%d", waiting), func(b *testing.B) {
			l, err := Open(b.TempDir(), Options{})
			must(b, err)
			must(b, l.Bootstrap(testIdentity, HardState{Term: 1, Commit: 1}, run(1, 2, 1), 1))
			data := bytes.Repeat([]byte("d"), 300)
			next := uint64(2)
			b.SetBytes(int64(300 * waiting))
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				entries := make([]*raftpb.Entry, waiting)
				for i := range entries {
					entries[i] = &raftpb.Entry{Index: proto.Uint64(next), Term: proto.Uint64(1), Data: data}
					next++
				}
				must(b, l.Append(nil, entries, true))
				if next%(64<<10) < uint64(waiting) && next > 10_000 {
					must(b, l.Cut(next-10_000))
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*waiting), "ns/entry")
			must(b, l.Close())
		})
	}
}

// BenchmarkEntries reads 64 entries from memory and from the disk.
func BenchmarkEntries(b *testing.B) {
	for name, tail := range map[string]int{"memory": 0, "disk": 1} {
		b.Run(name, func(b *testing.B) {
			l, err := Open(b.TempDir(), Options{TailBytes: tail})
			must(b, err)
			must(b, l.Bootstrap(testIdentity, HardState{Term: 1, Commit: 1}, run(1, 1000, 1), 1))
			b.ReportAllocs()
			for i := range b.N {
				lo := uint64(1 + i%900)
				if es, err := l.Entries(lo, lo+64, 1<<20); err != nil || len(es) != 64 {
					b.Fatal(len(es), err)
				}
			}
			must(b, l.Close())
		})
	}
}
