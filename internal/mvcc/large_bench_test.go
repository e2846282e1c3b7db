package mvcc

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// BenchmarkPutLarge puts large values to random ones of 1,000 keys again and again, and reports what the tables were written, flushed
// and by compactions, for each byte of a value. The more puts, the more versions there are to compact:
//
//	go test ./internal/mvcc -run '^$' -bench PutLarge -benchtime 10000x
func BenchmarkPutLarge(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) { benchPutLarge(b, size) })
	}
}

func benchPutLarge(b *testing.B, size int) {
	const group, keys = 32, 1000
	s := newBenchStore(b)
	r := rand.New(rand.NewPCG(7, 8))
	val := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(val) // it never fails
	b.SetBytes(int64(size))
	b.ResetTimer()
	for i := 0; i < b.N; {
		w := s.NewWriter()
		for end := min(b.N, i+group); i < end; i++ {
			w.Begin()
			if err := w.PutBlind(benchKey(r.IntN(keys)), val, 0); err != nil {
				b.Fatal(err)
			}
			w.End()
		}
		if err := w.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.db.Flush(); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	m := s.db.Metrics()
	put := float64(b.N) * float64(size)
	b.ReportMetric(float64(m.FlushedBytes)/put, "flushed/B")
	b.ReportMetric(float64(m.CompactedBytes)/put, "compacted/B")
}

// BenchmarkGetLarge reads single keys with large values, each by a view of its own.
func BenchmarkGetLarge(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			s := largeStore(b, size)
			r := rand.New(rand.NewPCG(9, 10))
			b.ResetTimer()
			for range b.N {
				readLarge(b, s, RangeOptions{Key: benchKey(r.IntN(largeKeys))}, 1)
			}
		})
	}
}

// BenchmarkScanLarge reads 100 keys with large values at a time, and their keys alone.
func BenchmarkScanLarge(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10} {
		for name, keysOnly := range map[string]bool{"": false, " keys": true} {
			b.Run(fmt.Sprintf("%dKiB%s", size>>10, name), func(b *testing.B) {
				s := largeStore(b, size)
				b.ResetTimer()
				for range b.N {
					readLarge(b, s, RangeOptions{Key: benchKey(100), End: benchKey(200), KeysOnly: keysOnly}, 100)
				}
			})
		}
	}
}

// BenchmarkPageLarge reads pages of 500 of 10,000 keys with large values, as a list of Kubernetes does. The keys were written in their order, or
// in none, as what is updated again and again comes to lie:
//
//	go test ./internal/mvcc -run '^$' -bench PageLarge -cpu 1
func BenchmarkPageLarge(b *testing.B) {
	const keys, page = 10_000, 500
	for _, size := range []int{4 << 10, 16 << 10} {
		for name, order := range map[string][]int{"": nil, " scattered": rand.New(rand.NewPCG(7, 8)).Perm(keys)} {
			b.Run(fmt.Sprintf("%dKiB%s", size>>10, name), func(b *testing.B) {
				s := pageStore(b, size, keys, order)
				r := rand.New(rand.NewPCG(9, 10))
				answer := make([]byte, 0, page*(size+100))
				for b.Loop() {
					answer = answer[:0]
					o := RangeOptions{Key: benchKey(r.IntN(keys - page)), End: []byte("/registry0"), Limit: page}
					benchRead(b, s, o, func(kv KV) error { answer = append(answer, kv.Raw()...); return nil })
				}
			})
		}
	}
}

// pageStore has large values under so many keys, written in this order of them; nil is their own.
func pageStore(b *testing.B, size, keys int, order []int) *Store {
	b.Helper()
	s := newBenchStore(b)
	b.Cleanup(func() { s.Retire(func() {}) }) // before it is closed
	s.KeepIterators(func(f func()) { time.AfterFunc(50*time.Millisecond, f) })
	val := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(val) // it never fails
	fill(b, s, keys, func(w *Writer, i int) error {
		if order != nil {
			i = order[i]
		}
		return w.PutBlind(benchKey(i), val, 0)
	})
	if err := s.db.Flush(); err != nil {
		b.Fatal(err)
	}
	return s
}

const largeKeys = 1000

// largeStore has large values under 1,000 keys, written in another order than that of the keys.
func largeStore(b *testing.B, size int) *Store {
	b.Helper()
	s := newBenchStore(b)
	val := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(val) // it never fails
	for _, i := range rand.New(rand.NewPCG(7, 8)).Perm(largeKeys) {
		w := s.NewWriter()
		w.Begin()
		if err := w.PutBlind(benchKey(i), val, 0); err != nil {
			b.Fatal(err)
		}
		w.End()
		if err := w.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.db.Flush(); err != nil {
		b.Fatal(err)
	}
	return s
}

func readLarge(b *testing.B, s *Store, o RangeOptions, want int) {
	n := 0
	benchRead(b, s, o, func(kv KV) error { n += len(kv.Raw()); return nil })
	if n < want {
		b.Fatal(n)
	}
}

func benchRead(b *testing.B, s *Store, o RangeOptions, emit func(KV) error) {
	v, err := s.View(0)
	if err != nil {
		b.Fatal(err)
	}
	_, err = v.Range(o, emit)
	if cerr := v.Close(); err != nil || cerr != nil {
		b.Fatal(err, cerr)
	}
}
