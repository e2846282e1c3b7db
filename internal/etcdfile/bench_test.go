package etcdfile

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

var versionsFlag = flag.Int("versions", 20_000, "number of versions in the benchmark's state")

// BenchmarkWrite writes a state on a disk whose keys were written in random order, 256 bytes each, one in four of them twice.
func BenchmarkWrite(b *testing.B) {
	dir := b.TempDir()
	db, err := storage.OpenState(filepath.Join(dir, "state"), storage.Options{FS: vfs.Default})
	noError(b, err)
	defer func() { noError(b, db.Close()) }()
	s := &state{db: db}
	s.store, err = mvcc.Open(db)
	noError(b, err)
	r, value := rand.New(rand.NewPCG(1, 1)), make([]byte, 256)
	keys := max(1, *versionsFlag*4/5)
	for done := 0; done < *versionsFlag; {
		w := s.store.NewWriter()
		for range min(500, *versionsFlag-done) {
			w.Begin()
			noError(b, w.PutBlind(fmt.Appendf(nil, "/registry/pods/%016x", r.IntN(keys)), value, 0))
			w.End()
			done++
		}
		noError(b, w.Commit())
	}
	noError(b, db.Flush())
	b.ResetTimer()
	var size int64
	for range b.N {
		c, err := Read(db)
		noError(b, err)
		path := filepath.Join(dir, "db")
		size, err = c.Write(b.Context(), path)
		noError(b, err)
		noError(b, c.Close())
		noError(b, os.Remove(path))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(*versionsFlag), "ns/version")
	b.ReportMetric(float64(size)/float64(*versionsFlag), "bytes/version")
}
