package raftlog

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// BenchmarkAppendWhatIsCutSoon is 100 MiB of entries in appends of about 256 KiB, of which the newest 16 MiB are kept, as under a
// steady load of writes. It tells the processor's time and what was written to the disk for each byte put.
func BenchmarkAppendWhatIsCutSoon(b *testing.B) {
	const total, keep, at = 100 << 20, 16 << 20, 256 << 10
	for _, size := range []int{256, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			var cpu, written uint64
			for range b.N {
				l, err := Open(b.TempDir(), Options{})
				must(b, err)
				must(b, l.Bootstrap(testIdentity, HardState{Term: 1, Commit: 1}, run(1, 2, 1), 1))
				usedBefore, writtenBefore := used(b)
				noise := rand.NewChaCha8([32]byte{})
				entries := make([]*raftpb.Entry, at/size)
				for next, put := uint64(2), 0; put < total; put += at {
					for i := range entries {
						data := make([]byte, size)
						_, _ = noise.Read(data) // it never fails
						entries[i] = &raftpb.Entry{Index: proto.Uint64(next), Term: proto.Uint64(1), Data: data}
						next++
					}
					must(b, l.Append(nil, slices.Clone(entries), true))
					if put%keep == 0 && put > keep {
						must(b, l.Cut(next-keep/uint64(size)))
					}
				}
				usedAfter, writtenAfter := used(b)
				cpu += usedAfter - usedBefore
				written += writtenAfter - writtenBefore
				must(b, l.Close())
			}
			puts := float64(b.N) * total / float64(size)
			b.ReportMetric(float64(cpu)/puts/1e3, "cpu-µs/entry")
			b.ReportMetric(float64(written)/float64(b.N)/total, "written/byte")
		})
	}
}

// used returns the processor's time of this process, in nanoseconds, and the bytes that it has written to disks.
func used(b *testing.B) (cpu, written uint64) {
	b.Helper()
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		b.Skip("this system does not tell what a process writes")
	}
	_, after, _ := strings.Cut(string(text), "\nwrite_bytes: ")
	_, err = fmt.Sscan(after, &written)
	must(b, err)
	return uint64(u.Utime.Nano() + u.Stime.Nano()), written
}
