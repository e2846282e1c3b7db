package watch

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// The benchmarks of the promises about size and speed:
//
//	go test ./internal/watch -run '^$' -bench . -benchtime 1x

// readers read streams until the benchmark ends and count events.
type readers struct {
	got  atomic.Int64
	want atomic.Int64
	all  chan struct{} // got has come to want
	stop context.CancelFunc
	done sync.WaitGroup
}

func (r *readers) start(streams []*Stream) {
	ctx, cancel := context.WithCancel(context.Background())
	r.all, r.stop = make(chan struct{}, 1), cancel
	for _, s := range streams {
		r.done.Go(func() {
			for {
				m, err := s.Next(ctx)
				if err != nil {
					return
				}
				if len(m.Events) > 0 && r.got.Add(int64(len(m.Events))) == r.want.Load() {
					r.all <- struct{}{}
				}
			}
		})
	}
}

func (r *readers) end() {
	r.stop()
	r.done.Wait()
}

func openStreams(l *lab, n int) []*Stream {
	streams := make([]*Stream, n)
	for i := range streams {
		streams[i] = l.hub.NewStream()
	}
	return streams
}

// BenchmarkFanOut is one event to 10,000 watchers on 100 streams, until all streams have taken it.
func BenchmarkFanOut(b *testing.B) {
	const streamsMax, watchersMax = 100, 10_000
	l := newLab(b, Options{})
	streams := openStreams(l, streamsMax)
	for i := range watchersMax {
		// Ranges of their own over one prefix.
		streams[i%streamsMax].Create(Spec{Key: []byte("/registry/pods/"), End: fmt.Appendf(nil, "/registry/pods0%05d", i)})
	}
	var r readers
	r.start(streams)
	defer r.end()
	value := fmt.Sprintf("%0512d", 7)
	before := l.hub.Stats().Encoded
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		r.want.Add(watchersMax)
		events := l.commit(put("/registry/pods/x", value))
		b.StartTimer()
		l.hub.Publish(events)
		<-r.all
	}
	b.StopTimer()
	b.ReportMetric(float64(l.hub.Stats().Encoded-before)/float64(b.N), "encodings/op")
}

// BenchmarkIdleWatchers reports what a million watchers of single keys, and of ranges, cost each.
func BenchmarkIdleWatchers(b *testing.B) {
	const n = 1_000_000
	for name, end := range map[string]string{"keys": "", "prefixes": "0"} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				l := newLab(b, Options{})
				streams := openStreams(l, 100)
				before := heap()
				for i := range n {
					spec := Spec{Key: fmt.Appendf(nil, "/registry/pods/default/pod-%07d", i)}
					if end != "" {
						spec.End = append(append([]byte(nil), spec.Key...), end...)
					}
					s := streams[i%len(streams)]
					s.Create(spec)
					if _, _, err := s.poll(); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(heap()-before)/n, "B/watcher")
				l.hub.Close()
			}
		})
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkPublish is what the apply goroutine pays for an event beside 1,000 watchers on 10 streams, which read as
// fast as they can; ns/event is the time until all had all events.
func BenchmarkPublish(b *testing.B) {
	l := newLab(b, Options{})
	streams := openStreams(l, 10)
	for i := range 1000 {
		streams[i%10].Create(Spec{Key: []byte("/registry/"), End: []byte("/registry0")})
	}
	var r readers
	r.start(streams)
	defer r.end()
	var groups [][]mvcc.Event
	for i := range b.N {
		groups = append(groups, l.commit(put(fmt.Sprintf("/registry/%d", i%1000), "value")))
	}
	r.want.Store(int64(b.N) * 1000)
	b.ResetTimer()
	for _, g := range groups {
		l.hub.Publish(g)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N), "ns/publish")
	<-r.all
}

// BenchmarkCatchUp is one watcher 500,000 revisions behind, of values of 256 bytes under 100,000 keys on the disk.
func BenchmarkCatchUp(b *testing.B) {
	const revisions, keys = 500_000, 100_000
	dir, err := os.MkdirTemp("", "watch-bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	db := openDB(b, filepath.Join(dir, "state"), storage.Options{})
	store, err := mvcc.Open(db)
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	value := make([]byte, 256)
	for range revisions / 500 {
		w := store.NewWriter()
		for range 500 {
			for i := range value {
				value[i] = byte(rng.Uint32())
			}
			w.Begin()
			if err := w.PutBlind(fmt.Appendf(nil, "/registry/pods/%08d", rng.IntN(keys)), value, 0); err != nil {
				b.Fatal(err)
			}
			w.End()
		}
		if err := w.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	if err := db.Flush(); err != nil {
		b.Fatal(err)
	}
	for _, prev := range []bool{false, true} {
		b.Run(fmt.Sprintf("prev=%v", prev), func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				l := &lab{t: b, store: store}
				l.restart(Options{})
				s := l.hub.NewStream()
				s.Create(Spec{Key: []byte("/"), End: []byte("0"), Start: 2, PrevKV: prev})
				for n := 0; n < revisions; {
					m, err := s.Next(context.Background())
					if err != nil {
						b.Fatal(err)
					}
					n += len(m.Events)
				}
				l.hub.Close()
			}
			b.ReportMetric(float64(revisions)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
