package e2e

import (
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
)

var exportKeysFlag = flag.Int("export-keys", 20_000, "number of keys in BenchmarkExport")

// BenchmarkExport restores a database with keys of about 32 bytes and values of 256, serves it, and saves a snapshot beside a client that
// puts one key after the other: how long the snapshot takes, the longest put meanwhile, and the server's peak memory, in all and
// above that at rest before.
func BenchmarkExport(b *testing.B) {
	m := newMember(b)
	path := filepath.Join(b.TempDir(), "db")
	w, err := etcdfile.Create(path)
	noError(b, err)
	value := make([]byte, 256)
	for i := range *exportKeysFlag {
		rev := int64(i + 2)
		kv, err := proto.Marshal(&mvccpb.KeyValue{Key: fmt.Appendf(nil, "/registry/pods/%016x", uint64(i)*0x9e3779b97f4a7c15),
			CreateRevision: rev, ModRevision: rev, Version: 1, Value: value})
		noError(b, err)
		key := append(binary.BigEndian.AppendUint64(nil, uint64(rev)), '_')
		noError(b, w.Put(etcdfile.BucketKey, binary.BigEndian.AppendUint64(key, 0), kv))
	}
	noError(b, w.Finish())
	out, err := exec.Command(program.path, "util", "snapshot", "restore", path, "--skip-hash-check", "--data-dir", m.dataDir,
		"--initial-cluster", "default="+m.peer, "--initial-advertise-peer-urls", m.peer).CombinedOutput()
	if err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	s := m.start(b)
	c := m.connect(b)
	rest, _ := memory(s.PID(), "VmRSS")
	b.ResetTimer()
	var longest, took time.Duration
	for range b.N {
		done := make(chan struct{})
		slowest := make(chan time.Duration, 1)
		go func() {
			var longest time.Duration
			for {
				select {
				case <-done:
					slowest <- longest
					return
				default:
				}
				begin := time.Now()
				if _, err := c.Put(b.Context(), "probe", "x"); err != nil {
					b.Error(err)
				}
				longest = max(longest, time.Since(begin))
			}
		}()
		begin := time.Now()
		r, err := c.Snapshot(b.Context())
		noError(b, err)
		_, err = io.Copy(io.Discard, r)
		noError(b, err)
		noError(b, r.Close())
		took += time.Since(begin)
		close(done)
		longest = max(longest, <-slowest)
	}
	b.ReportMetric(took.Seconds()/float64(b.N), "s/snapshot")
	b.ReportMetric(float64(longest.Milliseconds()), "longest-put-ms")
	if peak, ok := memory(s.PID(), "VmHWM"); ok {
		b.ReportMetric(peak, "peak-MiB")
		b.ReportMetric(peak-rest, "above-rest-MiB")
	}
}

// memory is a field of a process's memory in MiB; ok is false where the system does not tell.
func memory(pid int, field string) (mib float64, ok bool) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(status)) {
		var kib float64
		if _, err := fmt.Sscanf(line, field+": %f kB", &kib); err == nil {
			return kib / 1024, true
		}
	}
	return 0, false
}
