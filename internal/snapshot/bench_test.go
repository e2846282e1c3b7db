package snapshot_test

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/snapshot"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// benchKeys is how many keys of 256 bytes BenchmarkBuild's state has.
const benchKeys = 200_000

// BenchmarkBuild measures how fast a stream becomes a state on disk, and how fast one is read.
func BenchmarkBuild(b *testing.B) {
	open := func() *storage.DB {
		db, err := storage.OpenState(b.TempDir(), storage.Options{Logger: slog.New(slog.DiscardHandler), Fatal: func(err error) { b.Error(err) }})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = db.Close() })
		return db
	}
	from := open()
	random := rand.New(rand.NewPCG(1, 2))
	batch := from.NewBatch()
	for i := range benchKeys {
		value := make([]byte, 256)
		for j := range value {
			value[j] = byte(random.Uint32())
		}
		if err := batch.Set(storage.AppendDataKey(nil, fmt.Appendf(nil, "/registry/keys/%08d", i), int64(i+2), 0), value, nil); err != nil {
			b.Fatal(err)
		}
		if i%1000 == 999 || i == benchKeys-1 {
			if err := from.Commit(batch); err != nil {
				b.Fatal(err)
			}
			batch = from.NewBatch()
		}
	}
	if err := from.Flush(); err != nil {
		b.Fatal(err)
	}
	read := func(w func(io.Reader) error) {
		r, err := snapshot.NewReader(from)
		if err != nil {
			b.Fatal(err)
		}
		if err := w(r); err != nil {
			b.Fatal(err)
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			read(func(r io.Reader) error { _, err := io.Copy(io.Discard, r); return err })
		}
	})
	b.Run("build", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			to := open()
			b.StartTimer()
			read(func(r io.Reader) error { return snapshot.Build(to, r) })
			if err := to.Flush(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
