package sim

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

var (
	seedFlag  = flag.Int64("seed", 0, "run this one seed; 0 runs -seeds of them")
	seedsFlag = flag.Int("seeds", 12, "how many seeds to run")
	firstFlag = flag.Int64("first", 1, "the first of -seeds")
	stepsFlag = flag.Int("steps", 30_000, "how many steps a seed takes")

	journalFlag = flag.String("journal", "", "write what each world comes to after each step to files in this directory")
)

// TestSeeds runs random worlds of three members. One seed again:
//
//	go test ./internal/sim -run TestSeeds -args -seed=N
func TestSeeds(t *testing.T) {
	t.Parallel()
	seeds := make([]int64, 0, *seedsFlag)
	for i := range *seedsFlag {
		seeds = append(seeds, *firstFlag+int64(i))
	}
	if *seedFlag != 0 {
		seeds = []int64{*seedFlag}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			t.Logf("seed %d; again: go test ./internal/sim -run TestSeeds -args -seed=%d -steps=%d", seed, seed, *stepsFlag)
			members := 3
			if seed%4 == 0 {
				members = 1 // raft has shortcuts for a sole voter
			}
			steps := *stepsFlag
			if seed%16 == 15 {
				members, steps = 5, 2*steps // five share them
			}
			w := New(t, seed, members)
			if *journalFlag != "" {
				keepJournal(t, w, filepath.Join(*journalFlag, fmt.Sprint(seed)))
			}
			w.network.keeps = true
			w.etcdFiles = seed%16 == 11
			if seed%5 == 2 {
				w.keepLog = members - 1
			}
			if seed%10 == 7 {
				w.catchUpBytes = 1
			}
			for _, h := range w.hosts {
				h.start()
			}
			t.Cleanup(func() {
				w.stopAll()
				*w = World{} // the testing package remembers this function, and with it the world, until all seeds are run
			})
			if members == 5 {
				w.Settle() // it may take them long to agree on their first leader
			}
			for range 4 {
				w.Run(steps / 4)
				w.CheckStates()
			}
			w.Settle()
			w.CheckStates()
			w.CheckWatchers()
			w.ExpireLeases()
			w.Settle()
			w.CheckStates()
			w.CheckWatchers()
			if seed%8 == 3 || seed%8 == 6 {
				w.Run(*stepsFlag / 8)
				w.LoseMajority()
				w.Run(*stepsFlag / 8)
				w.Settle()
				w.CheckStates()
				w.ExpireLeases()
				w.Settle()
				w.CheckStates()
				w.CheckWatchers()
			}
			t.Logf("%d entries, %d revisions, compacted %d, %d snapshots received, %d as files of etcd, %d leases renewed and %d expired, "+
				"%d events, %d members joined, %d messages outlived their senders, of which %d had started again", w.history.applied, w.history.model.revision, w.history.model.compacted,
				w.network.received, w.network.databases, w.terms.renewed, w.terms.expired, w.events(), w.growth.joined,
				w.network.outlived, w.network.outlasted)
			if w.faults.on {
				t.Logf("%+v", w.faults)
			}
			if w.failures.on {
				t.Logf("%+v", w.failures)
			}
			if w.history.model.revision < 3 {
				t.Errorf("only %d revisions were written: the run shows nothing", w.history.model.revision)
			}
		})
	}
}

// keepJournal has the world write its journal to a file.
func keepJournal(t *testing.T, w *World, name string) {
	t.Helper()
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	journal := w.Journal(file)
	t.Cleanup(func() {
		if err := errors.Join(journal.Flush(), file.Close()); err != nil {
			t.Error(err)
		}
	})
}

func (w *World) stopAll() {
	for _, h := range w.hosts {
		if h.m != nil {
			_ = h.m.Stop() // a member that failed the test may not stop cleanly
			h.m = nil
		}
	}
}
