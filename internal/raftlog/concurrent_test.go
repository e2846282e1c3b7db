package raftlog

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestReadersMeetAppendsAndCuts: the appends go on until all have met often enough.
func TestReadersMeetAppendsAndCuts(t *testing.T) {
	t.Parallel()
	const readsMin, cutsMin = 50, 20
	var reads, cuts atomic.Int64
	l := bootstrapped(t, vfs.NewMem(), 1, Options{TailBytes: 4000, SegmentBytes: 2000})
	var readers sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				first, last := l.FirstIndex(), l.LastIndex()
				es, err := l.Entries(first, last+1, 1<<20)
				if err != nil && !errors.Is(err, ErrCompacted) {
					t.Errorf("entries [%d, %d]: %v", first, last, err)
					return
				}
				for i, e := range es {
					if e.GetIndex() != first+uint64(i) {
						t.Errorf("entry %d at place %d from %d", e.GetIndex(), i, first)
						return
					}
				}
				if len(es) > 0 {
					reads.Add(1)
				}
				if _, err := l.Term(first); err != nil && !errors.Is(err, ErrCompacted) && !errors.Is(err, ErrUnavailable) {
					t.Errorf("term of %d: %v", first, err)
					return
				}
			}
		})
	}
	readers.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if last := l.LastIndex(); last > 40 && last-40 > l.Mark().Index {
				if err := l.Cut(last - 40); err != nil {
					t.Error(err)
					return
				}
				cuts.Add(1)
			}
		}
	})
	for i := uint64(2); (i < 1000 || reads.Load() < readsMin || cuts.Load() < cutsMin) && !t.Failed(); i++ {
		must(t, l.Append(nil, run(i, i+1, 1), i%7 == 0))
	}
	close(done)
	readers.Wait()
	must(t, l.Close())
}
