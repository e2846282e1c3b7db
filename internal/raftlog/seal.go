package raftlog

import (
	"sync"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// sealer writes a seal once no synced append came for a while, and at Close. Under load it writes none: each record
// proves those before it.
type sealer struct {
	db    *storage.DB
	clock clock.Clock
	after time.Duration
	wake  chan struct{} // an append came while nothing was waiting to be sealed
	stop  chan struct{}
	done  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	pending bool       // a synced record is not sealed
	newest  time.Time  // when the last one came
}

func newSealer(db *storage.DB, c clock.Clock, after time.Duration) *sealer {
	s := &sealer{db: db, clock: c, after: after, wake: make(chan struct{}, 1), stop: make(chan struct{})}
	if after > 0 {
		s.done.Add(1)
		go s.run()
	}
	return s
}

// appended is called after each synced append.
func (s *sealer) appended() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.after > 0 {
		s.newest = s.clock.Now()
	}
	if !s.pending {
		s.pending = true
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

func (s *sealer) run() {
	defer s.done.Done()
	for {
		select {
		case <-s.wake:
		case <-s.stop:
			return
		}
		for wait := s.wait(); wait > 0; wait = s.wait() {
			timer := s.clock.NewTimer(wait)
			select {
			case <-timer.C():
			case <-s.stop:
				timer.Stop()
				return
			}
		}
		if s.seal() != nil {
			return // the database is failed and has said so
		}
	}
}

// wait returns how long it is until the log has been idle for long enough.
func (s *sealer) wait() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.after - s.clock.Now().Sub(s.newest)
}

func (s *sealer) seal() error {
	s.mu.Lock()
	pending := s.pending
	s.pending = false // what is appended from here on needs another one
	s.mu.Unlock()
	if !pending || s.db.Err() != nil {
		return s.db.Err()
	}
	return s.db.Seal()
}

// close stops sealing by time and seals a last time.
func (s *sealer) close() error {
	close(s.stop)
	s.done.Wait()
	return s.seal()
}
