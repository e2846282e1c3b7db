package restore

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
)

var versionsFlag = flag.Int("versions", 20_000, "number of versions in the benchmark's database")

// database makes a database with keys of about 32 bytes and values of 256, in an order that is not that of the keys.
func database(tb testing.TB, n int) *etcdfile.File {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "db")
	w, err := etcdfile.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	value := make([]byte, 256)
	for i := range n {
		rev := uint64(i + 2)
		kv, err := proto.Marshal(&mvccpb.KeyValue{
			Key:            fmt.Appendf(nil, "/registry/pods/%016x", uint64(i)*0x9e3779b97f4a7c15),
			CreateRevision: int64(rev), ModRevision: int64(rev), Version: 1, Value: value,
		})
		if err != nil {
			tb.Fatal(err)
		}
		key := binary.BigEndian.AppendUint64(nil, rev)
		key = binary.BigEndian.AppendUint64(append(key, '_'), 0)
		if err := w.Put(etcdfile.BucketKey, key, kv); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Finish(); err != nil {
		tb.Fatal(err)
	}
	f, err := etcdfile.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Close() }) // it was only read
	return f
}

// BenchmarkRun restores a database of etcd's with each version a key of its own.
func BenchmarkRun(b *testing.B) {
	f := database(b, *versionsFlag)
	dir := b.TempDir()
	b.ResetTimer()
	for i := range b.N {
		target := Target{DataDir: filepath.Join(dir, fmt.Sprint(i)), DatabaseFile: true}
		target.Start, target.Self = founding(b)
		r, err := Run(b.Context(), f, target)
		if err = errors.Join(err, os.RemoveAll(target.DataDir)); err != nil {
			b.Fatal(err)
		}
		if r.Revision != int64(*versionsFlag+1) {
			b.Fatalf("restored revision %d", r.Revision)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/restore")
}
