package mvcc

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// The benchmarks work on stores of benchKeys keys of 32 bytes with values of 256 bytes on the real disk, made once a
// process and kind:
//
//	go test ./internal/mvcc -run '^$' -bench . -benchtime 2s
const benchKeys = 1_000_000

func benchKey(i int) []byte { return fmt.Appendf(nil, "/registry/benchmark/object-%06d", i) }

// benchStore is one store that benchmarks share.
type benchStore struct {
	once sync.Once
	s    *Store
	db   *storage.DB
	base int64 // its revision when it was filled
}

var (
	benchRoot   string
	benchStores = struct{ single, ten, hundred, dead, large, updated benchStore }{}
)

func TestMain(m *testing.M) {
	code := m.Run()
	for _, b := range []*benchStore{
		&benchStores.single, &benchStores.ten, &benchStores.hundred, &benchStores.dead, &benchStores.large, &benchStores.updated,
	} {
		if b.db != nil {
			_ = b.db.Close()
		}
	}
	if benchRoot != "" {
		_ = os.RemoveAll(benchRoot)
	}
	os.Exit(code)
}

// open makes the store on first use.
func (bs *benchStore) open(b *testing.B, name string, fill func(s *Store)) *Store {
	b.Helper()
	bs.once.Do(func() {
		if benchRoot == "" {
			var err error
			if benchRoot, err = os.MkdirTemp("", "mvcc-bench"); err != nil {
				b.Fatal(err)
			}
		}
		db, err := storage.OpenState(filepath.Join(benchRoot, name), storage.Options{})
		if err != nil {
			b.Fatal(err)
		}
		s, err := Open(db)
		if err != nil {
			b.Fatal(err)
		}
		fill(s)
		bs.base = s.Revision()
		if err := db.Flush(); err != nil {
			b.Fatal(err)
		}
		if err := db.CompactAll(context.Background()); err != nil {
			b.Fatal(err)
		}
		bs.s, bs.db = s, db
	})
	if bs.s == nil {
		b.Skip("the store could not be made")
	}
	b.ReportAllocs()
	b.ResetTimer()
	return bs.s
}

// fill writes n entries in groups of 100, as a loaded server does.
func fill(b *testing.B, s *Store, n int, change func(w *Writer, i int) error) {
	for i := 0; i < n; {
		w := s.NewWriter()
		for end := min(n, i+100); i < end; i++ {
			w.Begin()
			if err := change(w, i); err != nil {
				b.Fatal(err)
			}
			w.End()
		}
		if err := w.Commit(); err != nil {
			b.Fatal(err)
		}
	}
}

func putter(keys int, value []byte) func(w *Writer, i int) error {
	return func(w *Writer, i int) error {
		_, _, err := w.Put(benchKey(i%keys), value, 0)
		return err
	}
}

func value(n int) []byte {
	v := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range v {
		v[i] = byte('a' + r.IntN(26))
	}
	return v
}

func million(b *testing.B) *Store {
	return benchStores.single.open(b, "single", func(s *Store) { fill(b, s, benchKeys, putter(benchKeys, value(256))) })
}

// benchPut updates random keys.
func benchPut(b *testing.B, groupSize int, wantPrevious bool) {
	s := benchStores.updated.open(b, "updated", func(s *Store) { fill(b, s, benchKeys, putter(benchKeys, value(256))) })
	val := value(256)
	r := rand.New(rand.NewPCG(3, 4))
	keys := make([][]byte, 0, groupSize)
	for i := 0; i < b.N; i += len(keys) {
		keys = keys[:0]
		for range min(groupSize, b.N-i) {
			keys = append(keys, benchKey(r.IntN(benchKeys)))
		}
		putGroup(b, s, keys, val, wantPrevious)
	}
}

// putGroup puts as apply does: what a group puts is told beforehand.
func putGroup(b *testing.B, s *Store, keys [][]byte, val []byte, wantPrevious bool) {
	w := s.NewWriter()
	for _, key := range keys {
		w.Expect(key, wantPrevious)
	}
	if err := w.ReadAhead(); err != nil {
		b.Fatal(err)
	}
	for _, key := range keys {
		w.Begin()
		var err error
		if wantPrevious {
			_, _, err = w.Put(key, val, 0)
		} else {
			err = w.PutBlind(key, val, 0)
		}
		if err != nil {
			b.Fatal(err)
		}
		w.End()
	}
	if err := w.Commit(); err != nil {
		b.Fatal(err)
	}
}

// A plain put of a client is blind; one with prev_kv wants the previous version.
func BenchmarkPutUpdateOneAGroup(b *testing.B)       { benchPut(b, 1, false) }
func BenchmarkPutUpdateHundredAGroup(b *testing.B)   { benchPut(b, 100, false) }
func BenchmarkPutPreviousOneAGroup(b *testing.B)     { benchPut(b, 1, true) }
func BenchmarkPutPreviousHundredAGroup(b *testing.B) { benchPut(b, 100, true) }

// newBenchStore is an empty store of this benchmark alone.
func newBenchStore(b *testing.B) *Store {
	b.Helper()
	db, err := storage.OpenState(filepath.Join(b.TempDir(), "state"), storage.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	s, err := Open(db)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkPutCold puts groups to keys that are remembered, as a member does under puts of many clients: before each group other work has left nothing of
// the store in the caches of one processor. ns/put is without that work.
func BenchmarkPutCold(b *testing.B) {
	const keys, group = 100_000, 150
	s := newBenchStore(b)
	val := value(256)
	fill(b, s, keys, putter(keys, val))
	r := rand.New(rand.NewPCG(3, 4))
	other := make([]byte, 4<<20)
	var took time.Duration
	b.ResetTimer()
	for left := b.N; left > 0; left -= group {
		for i := 0; i < len(other); i += 64 {
			other[i]++
		}
		puts := make([][]byte, min(left, group))
		for i := range puts {
			puts[i] = benchKey(r.IntN(keys))
		}
		began := time.Now()
		putGroup(b, s, puts, val, false)
		took += time.Since(began)
	}
	b.ReportMetric(float64(took.Nanoseconds())/float64(b.N), "ns/put")
}

// BenchmarkPutScattered puts to random ones of 100,000 keys and reports what the tables were written for a put, flushed and by compactions. It waits for
// these after each 100,000 puts. The more puts, the more versions there are to compact:
//
//	go test ./internal/mvcc -run '^$' -bench PutScattered -benchtime 1600000x
func BenchmarkPutScattered(b *testing.B) {
	const keys, values = 100_000, 1 << 16
	s := newBenchStore(b)
	random := rand.NewChaCha8([32]byte{})
	var vals [values][]byte
	for i := range vals {
		vals[i] = make([]byte, 256)
		random.Read(vals[i]) // it never fails
	}
	change := func(key func(i int) int) func(w *Writer, i int) error {
		return func(w *Writer, i int) error { return w.PutBlind(benchKey(key(i)), vals[i%values], 0) }
	}
	fill(b, s, keys, change(func(i int) int { return i }))
	before := s.db.Metrics()
	r := rand.New(random)
	b.ResetTimer()
	for left := b.N; left > 0; left -= keys {
		fill(b, s, min(left, keys), change(func(int) int { return r.IntN(keys) }))
		b.StopTimer()
		step := time.NewTicker(10 * time.Millisecond)
		for idle := 0; idle < 20; idle++ {
			<-step.C
			if s.db.Metrics().CompactionsRunning > 0 {
				idle = 0
			}
		}
		step.Stop()
		b.StartTimer()
	}
	b.StopTimer()
	m := s.db.Metrics()
	b.ReportMetric(float64(m.FlushedBytes-before.FlushedBytes)/float64(b.N), "flushed-B/op")
	b.ReportMetric(float64(m.CompactedBytes-before.CompactedBytes)/float64(b.N), "compacted-B/op")
}

func BenchmarkPutCreate(b *testing.B) {
	var bs benchStore
	s := bs.open(b, "create", func(*Store) {})
	fill(b, s, b.N, putter(b.N, value(256)))
	b.StopTimer()
	_ = bs.db.Close()
	_ = os.RemoveAll(filepath.Join(benchRoot, "create"))
}

func benchRange(b *testing.B, s *Store, rev int64, o RangeOptions) RangeResult {
	v, err := s.View(rev)
	if err != nil {
		b.Fatal(err)
	}
	res, err := v.Range(o, func(kv KV) error { return nil })
	if err != nil {
		b.Fatal(err)
	}
	if err := v.Close(); err != nil {
		b.Fatal(err)
	}
	return res
}

func BenchmarkPointRead(b *testing.B) {
	s := million(b)
	r := rand.New(rand.NewPCG(5, 6))
	for b.Loop() {
		if benchRange(b, s, 0, RangeOptions{Key: benchKey(r.IntN(benchKeys))}).Count != 1 {
			b.Fatal("a key is missing")
		}
	}
}

func BenchmarkPointReadMissing(b *testing.B) {
	s := million(b)
	r := rand.New(rand.NewPCG(5, 6))
	for b.Loop() {
		if benchRange(b, s, 0, RangeOptions{Key: append(benchKey(r.IntN(benchKeys)), 'x')}).Count != 0 {
			b.Fatal("a key too many")
		}
	}
}

// benchScan reads the whole store and reports the time a live key.
func benchScan(b *testing.B, s *Store, rev int64, o RangeOptions) {
	o.Key, o.End = []byte{0}, []byte{0}
	n := int64(0)
	for b.Loop() {
		n += benchRange(b, s, rev, o).Count
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/key")
}

func BenchmarkScan(b *testing.B) { benchScan(b, million(b), 0, RangeOptions{}) }

func BenchmarkScanKeysOnly(b *testing.B) { benchScan(b, million(b), 0, RangeOptions{KeysOnly: true}) }

func BenchmarkScanDescending(b *testing.B) {
	benchScan(b, million(b), 0, RangeOptions{Order: SortDescend})
}

func BenchmarkScanTenVersions(b *testing.B) {
	s := benchStores.ten.open(b, "ten", func(s *Store) { fill(b, s, benchKeys, putter(benchKeys/10, value(256))) })
	b.Run("newest", func(b *testing.B) { benchScan(b, s, 0, RangeOptions{}) })
	b.Run("oldest", func(b *testing.B) { benchScan(b, s, benchKeys/10+1, RangeOptions{}) })
}

func BenchmarkScanHundredVersions(b *testing.B) {
	s := benchStores.hundred.open(b, "hundred", func(s *Store) { fill(b, s, benchKeys, putter(benchKeys/100, value(256))) })
	b.Run("newest", func(b *testing.B) { benchScan(b, s, 0, RangeOptions{}) })
	b.Run("oldest", func(b *testing.B) { benchScan(b, s, benchKeys/100+1, RangeOptions{}) })
}

func BenchmarkScanHalfTombstones(b *testing.B) {
	s := benchStores.dead.open(b, "dead", func(s *Store) {
		fill(b, s, benchKeys/2, putter(benchKeys/2, value(256)))
		fill(b, s, benchKeys/4, func(w *Writer, i int) error {
			_, err := w.DeleteRange(benchKey(2*i), nil, nil)
			return err
		})
	})
	benchScan(b, s, 0, RangeOptions{})
}

func BenchmarkScanKeysOnlyOfLargeValues(b *testing.B) {
	s := benchStores.large.open(b, "large", func(s *Store) { fill(b, s, 10_000, putter(10_000, value(64<<10))) })
	benchScan(b, s, 0, RangeOptions{KeysOnly: true})
}

func BenchmarkCountAll(b *testing.B) {
	s := million(b)
	for b.Loop() {
		benchRange(b, s, 0, RangeOptions{Key: []byte{0}, End: []byte{0}, CountOnly: true})
	}
}

func BenchmarkCountAnyRange(b *testing.B) {
	s := million(b)
	r := rand.New(rand.NewPCG(7, 8))
	for b.Loop() {
		from, to := r.IntN(benchKeys), r.IntN(benchKeys)
		from, to = min(from, to), max(from, to)
		res := benchRange(b, s, 0, RangeOptions{Key: benchKey(from), End: benchKey(to), CountOnly: true})
		if res.Count != int64(to-from) {
			b.Fatalf("count %d, not %d", res.Count, to-from)
		}
	}
}

func BenchmarkCountAnyRangeMillionUpdatesBack(b *testing.B) {
	s := benchStores.updated.open(b, "updated", func(s *Store) { fill(b, s, benchKeys, putter(benchKeys, value(256))) })
	b.StopTimer()
	base := benchStores.updated.base
	val := value(256)
	r := rand.New(rand.NewPCG(9, 10))
	fill(b, s, max(0, benchKeys-int(s.Revision()-base)), func(w *Writer, i int) error {
		_, _, err := w.Put(benchKey(r.IntN(benchKeys)), val, 0)
		return err
	})
	b.StartTimer()
	for b.Loop() {
		from, to := r.IntN(benchKeys), r.IntN(benchKeys)
		from, to = min(from, to), max(from, to)
		res := benchRange(b, s, base, RangeOptions{Key: benchKey(from), End: benchKey(to), CountOnly: true})
		if res.Count != int64(to-from) {
			b.Fatalf("count %d, not %d", res.Count, to-from)
		}
	}
}

func BenchmarkPageOf500(b *testing.B) {
	s := million(b)
	r := rand.New(rand.NewPCG(11, 12))
	for b.Loop() {
		benchRange(b, s, 0, RangeOptions{Key: benchKey(r.IntN(benchKeys)), End: []byte("/registry0"), Limit: 500})
	}
}

func BenchmarkCompactRecord(b *testing.B) {
	var bs benchStore
	s := bs.open(b, "compact", func(s *Store) { fill(b, s, b.N, putter(1000, value(256))) })
	w := s.NewWriter()
	if err := w.ScheduleCompact(s.Revision()); err != nil {
		b.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		b.Fatal(err)
	}
	for done := false; !done; {
		var err error
		if done, err = s.CompactStep(context.Background(), 1000); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	_ = bs.db.Close()
	_ = os.RemoveAll(filepath.Join(benchRoot, "compact"))
}

func BenchmarkHashRecord(b *testing.B) {
	s := million(b)
	n := 0
	for b.Loop() {
		if _, _, _, err := s.HashKV(context.Background(), 0); err != nil {
			b.Fatal(err)
		}
		n += benchKeys
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/record")
}

// BenchmarkHashRecordUpdated hashes a store whose keys were written in no order.
func BenchmarkHashRecordUpdated(b *testing.B) {
	s := benchStores.updated.open(b, "updated", func(s *Store) { fill(b, s, benchKeys, putter(benchKeys, value(256))) })
	b.StopTimer()
	val := value(256)
	r := rand.New(rand.NewPCG(9, 10))
	fill(b, s, max(0, benchKeys-int(s.Revision()-benchStores.updated.base)), func(w *Writer, i int) error {
		_, _, err := w.Put(benchKey(r.IntN(benchKeys)), val, 0)
		return err
	})
	b.StartTimer()
	n := int64(0)
	for b.Loop() {
		if _, _, _, err := s.HashKV(context.Background(), 0); err != nil {
			b.Fatal(err)
		}
		n += s.Revision() - 1
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/record")
}

func BenchmarkOpen(b *testing.B) {
	million(b)
	for b.Loop() {
		if _, err := Open(benchStores.single.db); err != nil {
			b.Fatal(err)
		}
	}
}
