package raftlog

import (
	"sync"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// sealer writes a seal once no synced append came for a while. Under load it writes none: each record
// proves those before it.
type sealer struct {
	seal  func() error
	clock clock.Clock
	after time.Duration
	wake  chan struct{} // an append came while nothing was waiting to be sealed
	stop  chan struct{}
	done  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	pending bool       // a synced record is not sealed
	newest  time.Time  // when the last one came
}

func newSealer(seal func() error, c clock.Clock, after time.Duration) *sealer {
	return &sealer{seal: seal, clock: c, after: after, wake: make(chan struct{}, 1), stop: make(chan struct{})}
}

// KeepSealed has the log seal itself from now on, Options.SealAfter after the last synced append. It may be called once, before Close.
func (l *Log) KeepSealed() {
	if l.sealer.after > 0 {
		l.sealer.done.Go(l.sealer.run)
	}
}

// Seal proves what was synced, as the log does by itself once it is kept sealed.
func (l *Log) Seal() error {
	if !l.sealer.take() {
		return nil
	}
	return l.sealer.seal()
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
		if s.take() && s.seal() != nil {
			return // the log is failed and has said so
		}
	}
}

// wait returns how long it is until the log has been idle for long enough.
func (s *sealer) wait() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.after - s.clock.Now().Sub(s.newest)
}

// take says whether there is something to seal. What is appended from here on needs another one.
func (s *sealer) take() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	pending := s.pending
	s.pending = false
	return pending
}

// end stops sealing by time and says whether there is something to seal.
func (s *sealer) end() bool {
	close(s.stop)
	s.done.Wait()
	return s.take()
}
