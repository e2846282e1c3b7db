package member

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

var takeOverKeys = flag.Int("takeover-keys", 0, "how many keys the directory has that BenchmarkTakeOver takes over; it needs -generate, a program of etcd")

// BenchmarkTakeOver measures how long it takes to take over a large directory, up to the first answer, on the disk of the tests'
// temporary directory:
//
//	go test ./internal/member -run xxx -bench TakeOver -benchtime 1x -timeout 30m -args -generate etcd -takeover-keys 1000000
func BenchmarkTakeOver(b *testing.B) {
	if *takeOverKeys == 0 || *generateFlag == "" {
		b.Skip("it needs -takeover-keys and -generate")
	}
	for range b.N {
		b.StopTimer()
		dir := b.TempDir()
		fillEtcd(b, dir)
		cfg := takerOf(b, nil, dir)
		cfg.FS, cfg.DataDir = nil, dir
		runtime.GC()
		var peak uint64
		stopPeak := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak = max(peak, m.HeapInuse)
				select {
				case <-tick.C:
				case <-stopPeak:
					return
				}
			}
		}()
		b.StartTimer()
		m := start(b, cfg)
		b.StopTimer()
		close(stopPeak)
		<-done
		b.ReportMetric(float64(peak)/(1<<20), "MiB-heap")
		if m.Store().Revision() < int64(*takeOverKeys/keysPerTxn) {
			b.Errorf("the revision is %d", m.Store().Revision())
		}
		stop(b, m)
	}
}

// keysPerTxn are written in one transaction.
const keysPerTxn = 100

// fillEtcd has etcd write keys of about 32 bytes and values of 256 into a directory.
func fillEtcd(tb testing.TB, dir string) {
	tb.Helper()
	e := runEtcd(tb, dir, "")
	value := string(make([]byte, 256))
	for i := 0; i < *takeOverKeys; i += keysPerTxn {
		var ops []clientv3.Op
		for j := range keysPerTxn {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("/registry/things/ns/%012d", i+j), value))
		}
		if _, err := e.c.Txn(context.Background()).Then(ops...).Commit(); err != nil {
			tb.Fatal(err)
		}
	}
	e.end(tb, syscall.SIGTERM)
	if info, err := os.Stat(dir + "/member/snap/db"); err == nil {
		tb.Logf("etcd's database has %d MiB", info.Size()>>20)
	}
}
